"""A trained network in a folder or on a hub of models, by huggingface_hub's own mixin.

A folder holds config.json (what a checkpoint says about its network), model.safetensors and a model
card. It is read wherever a checkpoint is: `load_checkpoint`, `Predictor.open`, every verb. This
module imports huggingface_hub, `import rsseg` does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from rsseg.common.file_kinds import FOLDER_CONFIG, FOLDER_WEIGHTS
from rsseg.common.pretrained_folder import write_folder
from rsseg.load import load_checkpoint
from rsseg.model_card import Measured, card_text
from rsseg.runtime.checkpoints import describe
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.predictor import Predictor
from rsseg.switchable.net import SwitchableNet
from rsseg.training.metadata import RunMetadata

_IDENTIFIER: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class HubNet(ModelHubMixin):
    """A trained network that is saved to, and read from, a folder or a hub.

    The methods `save_pretrained(folder)`, `from_pretrained(folder_or_id)` and `push_to_hub(id)` are
    those of huggingface_hub, with its arguments. `from_pretrained` also takes
    `allow_builder=True`, see `rsseg.load_checkpoint`. What the model card cannot know is given as
    `model_card_kwargs`, see `generate_model_card`. As everywhere with these methods, weights and
    configuration in a folder that exists are replaced; a README.md in it is kept.

    Args:
        net: The network; it is not changed.
        record: What is known about it, as `save_checkpoint` and `load_checkpoint` return it.
        measured: Accuracies and latencies for the model card.

    Attributes:
        net: As given.
        record: As given.

    Example:
        >>> HubNet.open("runs/rooms/last.pt").push_to_hub("name/rooms")  # doctest: +SKIP
    """

    def __init__(
        self, net: SwitchableNet, record: RunMetadata, *, measured: Measured | None = None
    ) -> None:
        self.net = net
        self.record = record
        self._measured = measured or Measured()
        self._place = "FOLDER"  # In the snippet of the model card.
        self._repository: str | None = None

    @classmethod
    def open(cls, path: str | Path, *, allow_builder: bool = False) -> HubNet:
        """Open a checkpoint, with the accuracies and latencies that lie beside it.

        Args:
            path: A checkpoint (.pt or packed .safetensors), or a folder.
            allow_builder: See `rsseg.load_checkpoint`.

        Raises:
            ValueError: If it cannot be read, or what lies beside it is damaged.
            OSError: If it cannot be read.
        """
        net, _, record = load_checkpoint(path, allow_builder=allow_builder)
        return cls(net, record, measured=Measured.beside(Path(path), record))

    @property
    def name(self) -> str:
        """What pictures, tables and the model card call the network."""
        return self.record.name or f"{self.record.task} network"

    def predictor(self, *, device: str = "cpu") -> Predictor:
        """Return what predicts images of any size at any resolution.

        Args:
            device: "auto", "cpu" or "cuda".
        """
        record = replace(self.record, name=self.name)
        description = describe(record, Path(self.name), unseen=self.net.unseen)
        return Predictor(TorchExecutor(self.net.eval(), device=device), description)

    def _save_pretrained(self, save_directory: Path) -> None:
        # Settings of the run and paths of weights tell about a machine; they stay at home.
        private = {"config", "data"}
        values = {key: value for key, value in self.record.plain().items() if key not in private}
        values["model"] = {
            key: None if key in ("weights", "encoder_weights") else value
            for key, value in self.record.model.items()
        }
        write_folder(save_directory, values, self.net.state_dict())
        self._place = self._repository or str(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> HubNet:
        """Open a folder, or download one; see `huggingface_hub.ModelHubMixin`.

        Args:
            pretrained_model_name_or_path: The folder, or "NAME/NETWORK" on the hub.
            **options: Those of the mixin, and `allow_builder`, see `rsseg.load_checkpoint`.

        Raises:
            FileNotFoundError: If there is no such folder, and no network can have that name.
        """
        if not Path(pretrained_model_name_or_path).is_dir():
            _check_identifier(str(pretrained_model_name_or_path))
        net: HubNet = super().from_pretrained(pretrained_model_name_or_path, **options)
        return net

    @classmethod
    def _from_pretrained(  # type: ignore[override]  # As the mixin asks: options by name.
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        allow_builder: bool = False,
    ) -> HubNet:
        folder = Path(model_id)
        if not folder.is_dir():
            files = [FOLDER_CONFIG, FOLDER_WEIGHTS]
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                    allow_patterns=files,
                )
            )
        net, _, record = load_checkpoint(folder, allow_builder=allow_builder)
        return cls(net, record)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the network with its model card; see `huggingface_hub.ModelHubMixin`.

        Returns:
            Address of the commit.
        """
        self._repository = repo_id
        try:
            address: str = super().push_to_hub(repo_id, **options)
        finally:
            self._repository = None
        return address

    def generate_model_card(
        self, *, license: str | None = None, datasets: Sequence[str] = (), text: str = ""
    ) -> ModelCard:
        """Return the model card; what is not given or measured is said to be missing.

        Args:
            license: Identifier of the licence of the weights, such as "mit".
            datasets: Names of the data sets that it was trained with.
            text: What else is to be said, in Markdown.
        """
        return ModelCard(
            card_text(
                self.record,
                name=self.name,
                place=self._place,
                measured=self._measured,
                license_id=license,
                datasets=datasets,
                text=text,
            )
        )


def _check_identifier(model_id: str) -> None:
    """Raise FileNotFoundError for what can only be a folder, before a hub is asked for it."""
    if not _IDENTIFIER.fullmatch(model_id):
        raise FileNotFoundError(
            f"there is no folder {model_id!r}, and it is not an identifier of a hub, "
            "'NAME/NETWORK'; give one of the two"
        )
