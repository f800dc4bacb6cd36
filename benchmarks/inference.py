"""One image through a trained ResNet-18 at each resolution, and what a change of resolution costs.

The peer of a resolution is the network as it is, in PyTorch's eager mode and NCHW. "folded" is the
ordinary network of the one resolution with its BatchNorms folded into the convolutions. Nothing
but the network is timed. Executors outside PyTorch are left out.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, UnavailableError, Work
from benchmarks.runner import make_parser, run
from rsseg.common.checkpoint import load_weights, read_checkpoint, write_checkpoint
from rsseg.common.messages import first_line
from rsseg.switchable.convert import specialize, switch
from rsseg.switchable.net import SwitchableNet

RESOLUTIONS = (224, 160, 96)
Layout = torch.memory_format


def make_net(resolutions: Sequence[int], device: torch.device) -> SwitchableNet:
    """Build a network whose BatchNorm sets differ, in evaluation mode."""
    net = SwitchableNet(torchvision.models.resnet18(), resolutions)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net.to(device).eval()


def folded(network: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode, and fold each BatchNorm into the convolution before it.

    Works where the two follow each other as children of one module, as in a ResNet.

    Raises:
        ValueError: If a BatchNorm remains.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, conv), (follower, batchnorm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(batchnorm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, batchnorm))
                setattr(parent, follower, nn.Identity())
    left = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"no convolution stands before the BatchNorms {', '.join(left)}")
    return network


def _image(resolution: int, device: torch.device, layout: Layout) -> Tensor:
    image = torch.randn(1, 3, resolution, resolution, device=device)
    return image.contiguous(memory_format=layout)


def _moved(network: nn.Module, layout: Layout) -> nn.Module:
    moved: nn.Module = network.to(memory_format=layout)
    return moved


class Inference:
    """The variants at one resolution.

    Args:
        net: The network.
        resolution: Side of the image.
        passes: Passes in one round.
    """

    def __init__(self, net: SwitchableNet, resolution: int, passes: int) -> None:
        self.net, self.resolution, self.passes = net, resolution, passes
        self.device = next(net.parameters()).device

    def eager(self, layout: Layout = torch.contiguous_format) -> Work:
        """The switchable network itself."""
        net = copy.deepcopy(self.net)
        _moved(net, layout)
        return self._work(net.predict, layout)

    def folded(self) -> Work:
        """The ordinary network with folded BatchNorms, channels_last."""
        return self._work(self._folded(), torch.channels_last)

    def compiled(self) -> Work:
        """The folded network, compiled."""
        network = torch.compile(self._folded(), dynamic=False)
        work = self._work(network, torch.channels_last)
        try:
            work.call()
        except RuntimeError as error:  # What is missing: a compiler, or support for this device.
            raise UnavailableError(first_line(error)) from error
        return work

    def _folded(self) -> nn.Module:
        network = folded(specialize(self.net, self.resolution))
        return _moved(network, torch.channels_last)

    def _work(self, network: Callable[[Tensor], Tensor], layout: Layout) -> Work:
        image = _image(self.resolution, self.device, layout)

        def call() -> None:
            with torch.inference_mode():
                for _ in range(self.passes):
                    network(image)

        return Work(call, units=self.passes)


def in_order(net: SwitchableNet, resolutions: Sequence[int]) -> Work:
    """Prepare predictions at the given resolutions, in that order."""
    device = next(net.parameters()).device
    images = {r: _image(r, device, torch.contiguous_format) for r in set(resolutions)}

    def call() -> None:
        with torch.inference_mode():
            for resolution in resolutions:
                net.predict(images[resolution])

    return Work(call, units=len(resolutions))


def switching(net: SwitchableNet, changes: Sequence[int]) -> Work:
    """Prepare changes of the resolution, without any prediction."""

    def call() -> None:
        for resolution in changes:
            switch(net.network, resolution)

    return Work(call, units=len(changes))


def refolding(net: SwitchableNet, changes: Sequence[int]) -> Work:
    """Prepare folded networks, made at each change."""

    def call() -> None:
        for resolution in changes:
            folded(specialize(net, resolution))

    return Work(call, units=len(changes))


def loading(net: SwitchableNet, changes: Sequence[int], folder: Path) -> Work:
    """Prepare the loading of a checkpoint at each change, one file for each resolution."""
    network = copy.deepcopy(specialize(net, changes[0]))
    files = {r: folder / f"{r}.pt" for r in set(changes)}
    for resolution, path in files.items():
        write_checkpoint(path, {"net": specialize(net, resolution).state_dict()})

    def call() -> None:
        for resolution in changes:
            path = files[resolution]
            load_weights(network, read_checkpoint(path)["net"], path.name)

    return Work(call, units=len(changes))


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield each resolution, then predictions in another order, then the change alone."""
    passes = options.passes or (20 if options.short else 50)
    resolutions = tuple(options.resolutions)
    net = make_net(resolutions, options.device)
    sizes = {"network": "ResNet-18", "batch": 1, "passes": passes}
    for r in resolutions:
        at = Inference(net, r, passes)
        variants: dict[str, Callable[[], Work]] = {
            "eager": at.eager,
            "channels_last": partial(at.eager, torch.channels_last),
            "folded": at.folded,
            **({} if options.no_compile else {"folded, compiled": at.compiled}),
        }
        yield Case(f"{r} pixels", variants, {**sizes, "resolution": r}, memory=False)
    few, ends = max(1, passes // 5), (resolutions[0], resolutions[-1])
    orders = {"each in one go": [r for r in ends for _ in range(few)], "in turn": [*ends] * few}
    variants = {name: partial(in_order, net, order) for name, order in orders.items()}
    yield Case("predictions", variants, {**sizes, "resolutions": ends}, memory=False)
    changes = [*ends] * max(1, few // 2)
    with tempfile.TemporaryDirectory() as temporary:
        variants = {
            "load a checkpoint": partial(loading, net, changes, Path(temporary)),
            "fold again": partial(refolding, net, changes),
            "switch": partial(switching, net, changes),
        }
        yield Case("change", variants, {**sizes, "resolutions": ends}, memory=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("inference", str(__doc__), threads=2)
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--passes", type=int, help="in one round (default: 50, short: 20)")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled variants out")
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
