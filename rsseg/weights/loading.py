"""Loading weights into a network: one way for encoders, classifiers, segmenters and whole runs.

What is new or left out is said in one line, what does not fit is an error with the differences. A
head for other classes starts anew, and small, see `start_small`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from rsseg.common.distributed import is_main_process
from rsseg.common.messages import counted, listed
from rsseg.common.state_files import State
from rsseg.quantization.convert import quantized_convolutions
from rsseg.quantization.lsq import LearnedStepQuantizer
from rsseg.quantization.quantizer import Quantizer
from rsseg.switchable.layers import SwitchableNorm
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.positions import SwitchablePositions
from rsseg.switchable.unseen import neighbours, sides_of
from rsseg.weights.matching import COUNTER, Match, Sets, by_plain_name, match_names, plain_name
from rsseg.weights.parts import (
    ENCODER,
    children_with_parameters,
    head_layers,
    head_part,
    is_below,
    start_small,
)
from rsseg.weights.source import Weights

_FEW = 4  # names in a line


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What became of the tensors of a file and of a network; BatchNorm sets count once.

    Args:
        source: The setting and the file.
        loaded: How many tensors of the network are from the file.
        new: Names of those that are not.
        left_out: Names of tensors in the file that the network has no use for.
        heads: For each new layer that makes logits, its name, and the number of classes.
        parts: Parts of the network that are wholly new, such as the decoder.
        notes: What else is to be said.
    """

    source: str
    loaded: int
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    heads: dict[str, int] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        kinds = [part for part in self.parts if not any(is_below(h, part) for h in self.heads)]
        kinds += [f"head: {counted(max(self.heads.values()), 'class')}"] if self.heads else []
        known = [*self.parts, *self.heads]
        rest = [name for name in self.new if not any(is_below(name, part) for part in known)]
        kinds += [listed(rest, _FEW)] if rest else []
        new = f"{len(self.new)} ({', '.join(kinds)})" if self.new else "0"
        left = f"{len(self.left_out)}"
        left += f" ({listed(self.left_out, _FEW)})" if self.left_out else ""
        line = f"{self.source}: loaded {self.loaded}, new {new}, left out {left}"
        return "; ".join([line, *self.notes])

    def announce(self) -> None:
        """Print the line, on the main process alone."""
        if is_main_process():
            print(self, file=sys.stderr)


@torch.no_grad()
def load_start(
    network: nn.Module,
    weights: Weights,
    *,
    key: str,
    target: str | None = None,
    whole: bool = False,
    partial: bool = False,
    new_head: str = "",
) -> Loaded:
    """Load weights into a network in place.

    Args:
        network: An encoder, a classifier, a segmenter, or a SwitchableNet around one. A BatchNorm
            without sets goes into every set; sets go to their own resolution, or are interpolated.
        weights: What `open_weights` has read, see also `unpacked`.
        key: The setting that names the weights, for messages.
        target: What the network is called in messages; default: its class.
        whole: Nothing but counters may be new: it is an encoder.
        partial: The network is known to be cut out of a larger one, whose rest is no fault.
        new_head: Why the head starts anew even if it fits; empty: it does not.

    Raises:
        ValueError: If the weights do not fit; names what is missing, extra or of another shape.
    """
    inner = network.network if isinstance(network, SwitchableNet) else network
    state = dict(weights.state)
    scores = state.pop("scores", None)
    fit = _Fit(inner, state, whole=whole, restart=bool(new_head))
    faults = fit.faults(partial=partial)
    if faults:
        text = "; ".join(f"{kind}: {listed(names)}" for kind, names in faults.items())
        target = target or f"this {type(inner).__name__}"
        raise ValueError(f"{key} {weights.name} does not fit {target}; {text}")
    inner.load_state_dict(fit.state())
    for name, layer in fit.heads.items():
        if f"{name}.weight" in fit.new:
            start_small(layer)
    _restart_steps(inner, fit.new)
    notes = [*fit.notes(), *([new_head] if new_head else [])]
    if isinstance(network, SwitchableNet) and scores is not None and network.scores is not None:
        names = weights.checkpoint.get("resolutions", fit.sides)
        network.scores.copy_(_scores(scores, names, network.resolutions))
    return Loaded(
        source=f"{key} {weights.name}",
        loaded=len(fit.used),
        new=tuple(fit.new),
        left_out=tuple(fit.left_out()),
        heads={n: len(x.weight) for n, x in fit.heads.items() if f"{n}.weight" in fit.new},
        parts=tuple(fit.new_parts),
        notes=tuple(notes),
    )


class _Fit:
    """How the tensors of a file go into a network.

    Args:
        network: Without the SwitchableNet around it.
        state: The tensors of the file.
        whole: Nothing may be new.
        restart: The head starts anew even if it fits.
    """

    def __init__(self, network: nn.Module, state: State, *, whole: bool, restart: bool) -> None:
        self.network, self.restart = network, restart
        self.own_state = network.state_dict()
        self.own, self.file = by_plain_name(self.own_state), by_plain_name(state)
        self.match: Match = match_names(self.own, self.file)
        self.normalised = set(_names_of_sets(network))
        self.heads = {} if whole else head_layers(network)
        self.head = "" if whole else head_part(network)
        self.new_parts = [] if whole else self._new_parts()
        quantisers = [plain_name(f"{n}.")[0] for n in _names_of(network, Quantizer)]
        self.optional = [*self.new_parts, *([self.head] if self.head else [])]
        self.optional += [name.rstrip(".") for name in quantisers]
        self.reshaped = self._reshaped()
        restarted = self._restarted(every=restart)
        self.new = [
            name
            for name in self.own
            if not name.endswith(COUNTER)
            and (name in self.match.missing or name in restarted or self._in_new_part(name))
        ]
        self.used = {n: f for n, f in self.match.pairs.items() if n not in set(self.new)}
        self.used = {n: f for n, f in self.used.items() if not self._in_new_part(n)}

    @property
    def sides(self) -> list[int]:
        """The resolutions of the file's BatchNorm sets, largest first."""
        names = next((list(s) for s in self.file.values() if "" not in s), [])
        return sorted(sides_of(names), reverse=True)

    def _new_parts(self) -> list[str]:
        """Return the parts of a segmenter of which the file has nothing: decoder and head."""
        children = children_with_parameters(self.network)
        if ENCODER not in children or self.head == ENCODER:
            return []
        parts = [n for n in children if n != ENCODER]
        others = [n for n in parts if n != self.head]
        known = [n for n in self.match.pairs if not n.endswith(COUNTER)]
        shapes = {n for n in known if self._shape(n) == tuple(_first(self.own[n]).shape)}
        if any(is_below(name, part) for name in shapes for part in others):
            return []
        return parts if any(is_below(name, ENCODER) for name in known) else []

    def _in_new_part(self, name: str) -> bool:
        return any(is_below(name, part) for part in self.new_parts)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that the file has for a tensor of the network."""
        own = _first(self.own[name])
        return tuple(_fit_input(_first(self.file[self.match.pairs[name]]), own).shape)

    def _reshaped(self) -> list[str]:
        return [
            name
            for name in self.match.pairs
            if not self._in_new_part(name)
            and self._shape(name) != tuple(_first(self.own[name]).shape)
        ]

    def _restarted(self, *, every: bool) -> set[str]:
        """Return the tensors of the head that start anew: of other classes than the file's."""
        names: set[str] = set()
        for layer in self.heads:
            tensors = {n for n in (f"{layer}.weight", f"{layer}.bias") if n in self.own}
            inputs = {
                n: (self._shape(n)[1:], _first(self.own[n]).shape[1:])
                for n in tensors
                if n in self.match.pairs
            }
            other = any(n in self.reshaped for n in tensors)
            if every or (other and all(tuple(a) == tuple(b) for a, b in inputs.values())):
                names |= tensors
        return names

    def faults(self, *, partial: bool) -> dict[str, list[str]]:
        """Return what does not fit, by the kind of fault."""
        missing = [n for n in self.match.missing if not self._may_miss(n)]
        inside = [n for n in self.match.inside if not self._may_be_extra(n)]
        other = [
            f"{n} {self._shape(n)} instead of {tuple(_first(self.own[n]).shape)}"
            for n in self.reshaped
            if n in self.used
        ]
        if missing or other:  # What has another name explains what is missing.
            inside += self.match.outside
        inside = [n for n in inside if not n.endswith(COUNTER)]
        faults = {"missing": missing, "extra": [] if partial else inside, "other shape": other}
        if not self.restart:
            faults |= self._renamed_heads()
        if not any(faults.values()):
            faults = {"not numbers with a fraction": [], "not finite": []}
            for name, source in self.used.items():
                value = _first(self.file[source])
                if _first(self.own[name]).is_floating_point() and not value.is_floating_point():
                    faults["not numbers with a fraction"].append(name)
                elif not all(bool(v.isfinite().all()) for v in self.file[source].values()):
                    faults["not finite"].append(name)
        return {kind: names for kind, names in faults.items() if names}

    def _renamed_heads(self) -> dict[str, list[str]]:
        """Return what the file leaves out that has the very shape of a head that it lacks."""
        names: dict[str, list[str]] = {}
        for head in (f"{layer}.weight" for layer in self.heads):
            shape = _first(self.own[head]).shape
            alike = [n for n in self.left_out() if _first(self.file[n]).shape == shape]
            if alike and head in self.match.missing:
                names[f"of the shape of {head} (name it so, or leave it out of the file)"] = alike
        return names

    def _may_miss(self, name: str) -> bool:
        return any(is_below(name, part) for part in self.optional)

    def _may_be_extra(self, name: str) -> bool:
        parts = [*self.new_parts, *([self.head] if self.head else [])]
        return any(f".{part}." in f".{name}." for part in parts)

    def state(self) -> State:
        """Return the state dict of the network, with the file's tensors in it."""
        state = self.own_state  # With the versions of its layers, which some ask for.
        for key, own in self.own_state.items():
            name, set_name = plain_name(key)
            if name in self.used:
                sets = self.file[self.used[name]]
                blend = name.rpartition(".")[0] in self.normalised
                value = _of_set(sets, set_name, blend=blend and own.is_floating_point())
                state[key] = _fit_input(value, own).to(own.dtype)
        return state

    def left_out(self) -> Iterator[str]:
        """Yield the names of the file that are not used."""
        used = set(self.used.values())
        return (n for n in self.file if n not in used and not n.endswith(COUNTER))

    def notes(self) -> list[str]:
        """Return what is to be said of other weights in the file, and of its BatchNorm sets."""
        others = " and ".join(repr(prefix) for prefix in self.match.others)
        taken = f"of weights that fit under {self.match.prefix!r} and {others}, the first are taken"
        return [*([taken] if others else []), *self._notes_of_sets()]

    def _notes_of_sets(self) -> list[str]:
        """Return what is to be said if the resolutions of the BatchNorm sets differ."""
        names = next((list(s) for s in self.file.values() if "" not in s), [])
        own = next((list(s) for s in self.own.values() if "" not in s), [])
        if not names or names == own:
            return []
        if not own:
            return [f"the shared BatchNorm takes the set {_largest(names)}"]
        texts = [f"{name} {_origin(name, names)}" for name in own if name not in names]
        return [f"BatchNorm sets: {', '.join(texts)}"] if texts else []


def _names_of(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, kind)]


def _names_of_sets(network: nn.Module) -> list[str]:
    """Return the names, without sets, of what is mixed for another resolution: what holds it."""
    kinds = SwitchableNorm | SwitchablePositions
    return [
        plain_name(f"{name}.sets.0.")[0].rstrip(".")
        for name, layer in network.named_modules()
        if isinstance(layer, kinds)
    ]


def _first(sets: Sets) -> Tensor:
    return next(iter(sets.values()))


def _largest(names: Collection[str]) -> str:
    return max(names, key=lambda name: (sides_of([name])[0], -len(name)))


def _origin(name: str, names: Collection[str]) -> str:
    a, b, share = neighbours(sides_of([name])[0], sides_of(names))
    return f"from {a}" if share == 1 else f"from {b}" if share == 0 else f"between {a} and {b}"


def _of_set(sets: Sets, name: str, *, blend: bool) -> Tensor:
    """Return the tensor of a set: its own, the interpolated one, or the one of all sets.

    Args:
        sets: The tensors of a file.
        name: The set, "" for a network without sets.
        blend: Whether values may be mixed: those of norms and positions, not levels of a quantiser.
    """
    if "" in sets or name in sets:
        return sets.get(name, _first(sets))
    if not name:
        return sets[_largest(sets)]
    a, b, share = neighbours(sides_of([name])[0], sides_of(sets))
    first, second = sets[str(a)], sets[str(b)]
    if share in (0.0, 1.0) or not blend:
        return first if share >= 0.5 else second
    return share * first.float() + (1 - share) * second.float()


def _scores(scores: Tensor, sides: Iterable[int], resolutions: Iterable[int]) -> Tensor:
    """Return a raw score for each resolution, interpolated between those of a checkpoint."""
    known = {str(side): score for side, score in zip(sides, scores, strict=True)}
    return torch.stack([_of_set(known, str(r), blend=True).float() for r in resolutions])


def _fit_input(value: Tensor, own: Tensor) -> Tensor:
    """Fit the weights of a convolution on RGB images to another number of input channels."""
    if value.dim() != 4 or value.shape[1] != 3 or own.dim() != 4 or own.shape[1] == 3:
        return value
    fitted: Tensor = adapt_input_conv(own.shape[1], value)
    return fitted


def _restart_steps(network: nn.Module, new: Collection[str]) -> None:
    """Let new quantisers of weights find their first step on the weights that have been loaded."""
    for name, layer in quantized_convolutions(network):
        quantizer = layer.weight_quantizer
        if isinstance(quantizer, LearnedStepQuantizer) and f"{name}.weight_quantizer.step" in new:
            quantizer.start(layer.weight)
