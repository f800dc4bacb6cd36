"""How a run starts: anew, or continued, and then as the run that it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsseg.common.config import Config, is_given, load_config, plain
from rsseg.common.files import RunError
from rsseg.training.beginning import KEYS
from rsseg.training.run_folder import RunFolder, check_unused


@dataclass(frozen=True)
class Start:
    """How a command line starts a run.

    Args:
        folder: The run's folder.
        overrides: Settings besides the configuration file.
        config_file: The configuration file, None where the command line names the folder alone.
        resumed: Whether the run in the folder is continued.
    """

    folder: Path
    overrides: Sequence[str]
    config_file: Path | None
    resumed: bool

    @classmethod
    def anew(
        cls, config_file: Path, folder: Path | None, overrides: Sequence[str], *, go_on: bool
    ) -> Start:
        """Start the run of a file; with `go_on`, continue it if it has begun."""
        folder = folder or default_folder(config_file)
        resumed = go_on and RunFolder(folder).has_begun()
        return cls(folder, overrides, config_file, resumed)

    @classmethod
    def again(cls, folder: Path, overrides: Sequence[str]) -> Start:
        """Continue the run in a folder."""
        return cls(folder, overrides, None, resumed=True)

    def load(self, kind: type[Config]) -> Config:
        """Read the settings of the run.

        Raises:
            ValueError: If they are not valid, or the folder is not free for, or not of this run.
        """
        if not self.resumed:
            assert self.config_file is not None
            check_unused(self.folder)
            return load_config(kind, self.config_file, self.overrides)
        # Beside a file, the other overrides may be those that the run was begun with.
        overrides = [o for o in self.overrides if o.partition("=")[0] in ALLOWED_KEYS]
        checked = self.overrides if self.config_file is None else overrides
        config = load_config(kind, resumable(self.folder, checked), overrides)
        if self.config_file is not None:
            requested = plain(load_config(kind, self.config_file, self.overrides))
            check_same_run(
                self._with_recorded(requested, plain(config)), plain(config), self.folder
            )
        return config

    def _with_recorded(self, requested: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        """Take from the run what its beginning has settled where the file leaves it open.

        So mean and std, which its weights brought, and the precision that "auto" took.
        """
        assert self.config_file is not None
        if requested.get("precision") == "auto":
            requested["precision"] = own["precision"]
        if "preprocessing" in own and not self.given(*KEYS):
            images = {name: own["preprocessing"][name] for name in ("mean", "std")}
            requested["preprocessing"] = {**requested["preprocessing"], **images}
        return requested

    def given(self, *keys: str) -> bool:
        """Return whether the configuration file or an override sets one of some keys."""
        path = self.config_file
        return path is not None and any(is_given(path, self.overrides, key) for key in keys)

    def reopen(self, settings: Mapping[str, Any]) -> RunFolder:
        """Open the folder of a run that is continued, and write its new settings into it."""
        folder = RunFolder(self.folder)
        if self.overrides:
            folder.write_config(settings)
        return folder


def default_folder(config: Path) -> Path:
    """Return runs/FAMILY/NAME for configs/FAMILY/NAME.yaml, and runs/NAME for another file."""
    parts = config.with_suffix("").parts
    inner = parts[parts.index("configs") + 1 :] if "configs" in parts else parts[-1:]
    return Path("runs", *inner)


# What may differ on the machine that continues a run, and what may save one that has diverged.
MACHINE_KEYS = (
    *("data.root", "device", "workers", "memory", "compile", "teacher.checkpoint"),
    *("checkpoint_minutes", "timeout_minutes", "gradient_compression"),
)
REMEDY_KEYS = (
    *("optim.lr", "optim.body_lr", "optim.encoder_lr", "optim.clip_norm"),
    *("data.max_unreadable", "max_skipped_steps"),
)
ALLOWED_KEYS = (*MACHINE_KEYS, *REMEDY_KEYS)


def resumable(path: Path, overrides: Sequence[str]) -> Path:
    """Return the configuration file of a run that is to be continued.

    Raises:
        RunError: If the folder is not a run folder, or an override would make it another run.
    """
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path} is not a run folder: it holds no config.yaml")
    if not RunFolder(path).has_begun():
        raise RunError(
            f"{path} holds no last.pt: the run wrote no checkpoint; remove the folder and start "
            "the run again"
        )
    changed = [key for key in overrides if key.partition("=")[0] not in ALLOWED_KEYS]
    if changed:
        raise RunError(
            f"a run is continued as it was begun; --set {changed[0]} would change it. "
            f"Only {', '.join(ALLOWED_KEYS)} may be set; start a new run for the rest"
        )
    return path / "config.yaml"


def check_same_run(settings: Mapping[str, Any], own: Mapping[str, Any], path: Path) -> None:
    """Check that settings are a run's own, but for those that depend on the machine.

    Raises:
        RunError: With the keys that differ.
    """
    ours, theirs = settings_of_run(settings), settings_of_run(own)
    differing = sorted(
        key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)
    )
    if differing:
        raise RunError(
            f"the run in {path} was begun with another {', '.join(differing)}; continue it with "
            f"--resume {path}, remove that folder, or choose another with --run"
        )


def settings_of_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by full key, but for those that depend on the machine."""
    return {key: value for key, value in _flat(values).items() if key not in MACHINE_KEYS}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        flat.update(inner or {f"{prefix}{key}": value})
    return flat
