"""Checkpoints of the trained parameters: whole or not there, checked when read, and fitting the model exactly."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import IO, Any, cast

import torch
from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import nn

from possam.d2.utils import comm
from possam.encoders.state_dicts import not_finite
from possam.engine.checkpoint_index import CheckpointIndex
from possam.engine.run_folder import begin_run, check_shared, claim_checkpoint, earlier_checkpoints
from possam.models.converters import adapt_checkpoint
from possam.models.pretrained import PARAMETERS, VOCABULARY
from possam.models.state import describe_frozen, load_checkpoint, read_checkpoint, take_vocabulary
from possam.utils.files import read_json, write_atomically
from possam.vocabulary import Vocabulary

__all__ = ["Checkpointer"]

logger = logging.getLogger(__name__)

POINTER = "last_checkpoint"
_PERIODIC = re.compile(r"model_\d{7,}\.pth")
_LEFTOVERS = ".*.pth.*.tmp"  # of write_atomically, when it was killed
_COPIES = 3  # AdamW keeps two numbers beside every parameter


class Checkpointer(FvcoreCheckpointer):  # type: ignore[misc]
    """fvcore's checkpointer, strict and safe: what does not fit raises instead of being logged, and no code runs.

    Files hold the trained parameters alone, by name and sha256 of the weights which frozen encoders they were trained
    over, and on which vocabulary; the encoders themselves come from their own files. A run that is killed while saving
    leaves the older checkpoints and no part of a new one; `manifest.json` beside them tells whole files from damaged
    ones, and `earlier_checkpoints.json` names those of earlier runs, which are not gone on from.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, keep: int = 0, save_to_disk: Any = None, **checkpointables: Any
    ) -> None:
        """
        Args:
            model: the model, bare or wrapped for distributed training.
            save_dir: folder to save to and to look for checkpoints in.
            keep: how many periodic checkpoints (model_<iteration>.pth) to keep, the last saved ones; 0 keeps all.
                Others, such as model_final.pth and model_best.pth, are always kept.
            save_to_disk: by default, whether this is the main process.
            checkpointables: further objects with state_dict and load_state_dict, saved under their keywords. One that
                has a check_state_dict, too, is asked before anything of a checkpoint is loaded.

        Raises:
            ValueError: `keep` is negative.
        """
        if keep < 0:
            raise ValueError(f"SOLVER.MAX_TO_KEEP is {keep}, but must be 0, which keeps all, or more.")
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.keep = keep
        self._wanted: list[str] = []  # checkpointables of the file that is being loaded

    # ------------------------------------------------------------------ saving

    def check_folder(self) -> None:
        """Check, where this process saves at all, that a first checkpoint can be: better now than after hours.

        Raises:
            OSError: the folder cannot be written to, or its disk has too little room.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        probe = Path(self.save_dir) / ".writable"
        try:
            write_atomically(probe, lambda file: file.write(b"checked before training"))
            probe.unlink()
        except OSError as error:
            raise OSError(
                f"Checkpoints cannot be written to {self.save_dir} ({_reason(error)}); set OUTPUT_DIR to a folder "
                "that can be written to."
            ) from error
        needed = _COPIES * sum(value.nbytes for value in self.model.state_dict().values())
        free = shutil.disk_usage(self.save_dir).free
        if free < needed:
            raise OSError(
                f"{self.save_dir} has {free / 2**20:,.0f} MiB left, but a checkpoint needs {needed / 2**20:,.0f} MiB; "
                "free some space, or set OUTPUT_DIR to a folder on another disk."
            )

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth: the model, the checkpointables, what it was trained over and on, and `kwargs`.

        Afterwards the pointer file names it, and this run's periodic checkpoints beyond `keep` are deleted; one that
        cannot be is named in a warning.

        Raises:
            FloatingPointError: a parameter is NaN or infinite; nothing is written.
            OSError: it could not be written. What was saved before is there, and a next save may work.
        """
        if not (self.save_dir and self.save_to_disk):  # the fingerprints, which take seconds, would be for nothing
            return
        content = {"model": self.model.state_dict()}
        if wrong := not_finite(content["model"]):
            raise FloatingPointError(
                f"The checkpoint {name} is not saved: parameters are NaN or infinite: {wrong}. Go on from an earlier "
                "one with a lower SOLVER.BASE_LR."
            )
        content |= {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        content |= {"frozen": describe_frozen(self.model), **kwargs}
        if isinstance(vocabulary := getattr(self.model, "train_vocabulary", None), Vocabulary):
            content["vocabulary"] = vocabulary.to_table()
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving the checkpoint %s", path)
        try:
            for leftover in path.parent.glob(_LEFTOVERS):
                _remove(leftover)
            _write(path, content)
            claim_checkpoint(self.save_dir, path.name)
            self.tag_last_checkpoint(path.name)
        except OSError as error:
            raise OSError(
                f"The checkpoint {path} was not saved ({_reason(error)}); those saved before are as they were. Free "
                "some space or make the folder writable, and go on with --resume."
            ) from error
        self._purge(path.name)

    def begin(self) -> str:
        """Let the folder be that of a new run: what is there stays, and is not gone on from.

        Returns:
            The last saved checkpoint of earlier runs; empty if there is none.
        """
        begin_run(self.save_dir)
        pointer = Path(self.save_dir) / POINTER
        if pointer.is_file():
            pointer.replace(pointer.with_name(f"{POINTER}.earlier"))
        return next((str(Path(self.save_dir) / name) for name in self._by_age()), "")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Let the pointer file name a checkpoint."""
        name = last_filename_basename.encode()
        write_atomically(Path(self.save_dir) / POINTER, lambda file: file.write(name))

    def _purge(self, saved: str) -> None:
        periodic = [name for name in self._resumable() if _PERIODIC.fullmatch(name)]
        surplus = [name for name in periodic[self.keep :] if name != saved] if self.keep else []
        removed = [name for name in surplus if _remove(Path(self.save_dir) / name)]
        if removed:
            try:
                CheckpointIndex(self.save_dir).forget(*removed)
            except OSError as error:
                logger.warning("manifest.json still lists %s, which were deleted (%s).", removed, _reason(error))

    # ------------------------------------------------------------------ loading

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load `path`, a .pth or .safetensors file or its URL; an empty path loads nothing.

        A published checkpoint of another project is converted (possam.models.converters).

        Where nothing but the model is checkpointed, it takes over the vocabulary that the file was trained on, with a
        warning if that is another than its own: what it has seen does not go by a configuration. A training keeps its
        own vocabulary; it can start from parameters of another, but not go on from them.

        Args:
            checkpointables: which of them to load with the model; None: all that the file holds.

        Returns:
            What else the file holds, such as the iteration.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no checkpoint, is not what was saved, holds parameters that are NaN or infinite, or is of
                another model, over other frozen encoders, or of another vocabulary than the training that goes on;
                the model stays as it was.
        """
        if path and ("?" in path or path.endswith((".pkl", ".pyth"))):
            # Model zoos have such files, which are pickles, and Detectron2 such names.
            raise ValueError(f"{path} is not the name of a checkpoint, which is a .pth or .safetensors file.")
        if path and "://" not in path:
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f"No checkpoint at {path}. Check MODEL.WEIGHTS, which a training from scratch leaves empty."
                )
            CheckpointIndex(Path(path).parent).check(Path(path).name)
        self._wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        return super().load(path, checkpointables)

    def has_checkpoint(self) -> bool:
        """Whether the main process finds a checkpoint, whole or not, or a pointer to one; all processes must ask.

        Raises:
            ValueError: the list of those of earlier runs, which do not count, is damaged.
        """
        found, problem = False, ""
        if self.save_dir and comm.is_main_process():
            try:
                found = bool(self._resumable() or self._dangling())
            except ValueError as error:
                problem = str(error)
        found, problem = comm.all_gather((found, problem))[0]
        if problem:
            raise ValueError(problem)
        return found

    def get_checkpoint_file(self) -> str:
        """The last saved checkpoint that is whole, as the main process finds it; all processes must ask.

        Damaged ones that are passed over, and a pointer file that names another, are named in warnings.

        Raises:
            ValueError: none is whole, or the folder is not the same in all processes.
        """
        check_shared(self.save_dir)
        chosen, problem = "", ""
        if comm.is_main_process():
            try:
                chosen = self._last_whole()
            except ValueError as error:
                problem = str(error)
        chosen, problem = comm.all_gather((chosen, problem))[0]
        if problem:
            raise ValueError(problem)
        return chosen

    def _last_whole(self) -> str:
        folder, pointed, problems = Path(self.save_dir), self._pointed(), []
        names = self._resumable()
        if self._dangling():
            problems.append(f"{folder / POINTER} names {pointed}, which is not there")
        for name in names:
            try:
                self._check_whole(folder / name)
            except (ValueError, OSError) as error:
                problems.append(str(error).rstrip("."))
                continue
            for problem in problems:
                logger.warning("%s.", problem)
            if problems or name != pointed:
                names_it = f"names {pointed}" if pointed else "is empty or missing"
                logger.warning("%s %s; going on from %s, the last whole one.", POINTER, names_it, folder / name)
            return str(folder / name)
        raise ValueError(
            f"No checkpoint in {folder} is whole: {'; '.join(problems)}. Put a whole one there, or start anew without "
            "--resume or in another OUTPUT_DIR."
        )

    def _check_whole(self, path: Path) -> None:
        if CheckpointIndex(path.parent).check(path.name):
            return
        content = read_checkpoint(path)
        if missing := [key for key in self.checkpointables if key not in content]:
            raise ValueError(f"{path} cannot be gone on from: it holds no {' and no '.join(map(repr, missing))}")

    def _resumable(self) -> list[str]:
        """The checkpoints of the present run, whole or not, the last saved one first."""
        earlier = earlier_checkpoints(self.save_dir)
        return [name for name in self._by_age() if name not in earlier]

    def _dangling(self) -> bool:
        """Whether the pointer file names what is not there."""
        return bool(pointed := self._pointed()) and pointed not in self._by_age()

    def _by_age(self) -> list[str]:
        """The checkpoints of the folder, whole or not, the last saved one first."""
        entries = CheckpointIndex(self.save_dir).entries()
        # Times of files, unlike the index's, change when they are copied.
        times = {
            path.name: entries[path.name]["saved"] if path.name in entries else path.stat().st_mtime
            for path in Path(self.save_dir).glob("*.pth")
        }
        first = "" if entries else self._pointed()
        return sorted(times, key=lambda name: (name == first, times[name], name), reverse=True)

    def _pointed(self) -> str:
        """What the pointer file names, or nothing."""
        try:
            return (Path(self.save_dir) / POINTER).read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
        except FileNotFoundError:
            return ""

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            content = read_checkpoint(filename)
        except ValueError as error:
            raise ValueError(f"{error} Check MODEL.WEIGHTS.") from error
        content = adapt_checkpoint(self.model, content, filename)
        path = Path(filename)
        if path.name == PARAMETERS and path.with_name(VOCABULARY).is_file():  # of save_pretrained
            content["vocabulary"] = read_json(path.with_name(VOCABULARY))
        return {**content, "source": filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        source = f"The checkpoint {checkpoint.pop('source')}"
        saved, own, told = take_vocabulary(checkpoint, source), getattr(self.model, "train_vocabulary", None), ""
        if saved and own and (difference := saved.difference(own)):
            told = (
                f"{source} was trained on the vocabulary {saved.name}, but DATASETS.TRAIN or MODEL.TRAIN_VOCABULARY "
                f"give {own.name}: {difference}"
            )
        if told and self._wanted:
            raise ValueError(f"{told}. Train on the same classes, or start from its parameters with MODEL.WEIGHTS.")
        for key in self._wanted:
            check = getattr(self.checkpointables[key], "check_state_dict", None)
            if check and key in checkpoint:
                check(checkpoint[key])
        load_checkpoint(self.model, checkpoint, source)
        if told and self.checkpointables:
            logger.warning("%s. Training starts from it; classes of the former alone will count as unseen.", told)
        elif told:
            logger.warning("%s. The former decides which classes are seen.", told)
            self.model.train_vocabulary = saved


class _Hashed:
    """A file to write to, with size and sha256 of what was written, and the error, if any."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint and list it. Between the two it is not listed, rather than listed as what it was before."""
    index = CheckpointIndex(path.parent)
    written: list[_Hashed] = []

    def write(file: IO[bytes]) -> None:
        hashed = _Hashed(file)
        written.append(hashed)
        try:
            torch.save(content, cast("IO[bytes]", hashed))
        except RuntimeError as error:  # torch hides what the file said
            raise hashed.error or error from error
        index.forget(path.name)

    write_atomically(path, write)
    if os.name == "posix":
        # The new name must be on the disk before an old checkpoint is deleted.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    index.add(path.name, size=written[0].size, sha256=written[0].digest.hexdigest())


def _remove(path: Path) -> bool:
    """Delete a file and return whether it is deleted; log a warning with the reason if not."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s could not be deleted (%s); delete it yourself to free its space.", path, _reason(error))
        return False
    return True


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
