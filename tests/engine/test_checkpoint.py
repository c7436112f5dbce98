"""Checkpoints fit the model and its frozen encoders exactly, or are refused; none of them can run code; and saving one
that fails half-way costs none that was saved before."""

import json
import math
import os
import pickle
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from possam.d2.modeling import build_model
from possam.engine import Checkpointer
from possam.engine import checkpoint as checkpoint_module
from possam.engine.step import TrainingStep
from possam.models.state import describe_frozen, write_safetensors
from possam.vocabulary import Vocabulary


def save(path, state):
    torch.save({"model": state}, path)
    return str(path)


def test_loads_what_fits(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    Checkpointer(model).load(save(tmp_path / "fits.pth", other.state_dict()))
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \(2, 4\).*\(2, 3\)"),
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra is not part"),
    ],
)
def test_refuses_what_does_not_fit_and_leaves_the_model_as_it_was(tmp_path, state, message):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    before = model.weight.detach().clone()
    checkpointer = Checkpointer(model)
    with pytest.raises(ValueError, match=message):
        checkpointer.load(save(tmp_path / "other.pth", state))
    assert torch.equal(model.weight, before)
    checkpointer.load(save(tmp_path / "fits.pth", other.state_dict()))  # an error does not spoil the next load
    assert torch.equal(model.weight, other.weight)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        Checkpointer(nn.Linear(3, 2)).load(str(tmp_path / "nothing.pth"))


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "text.pth"
    path.write_text("no weights at all")
    with pytest.raises(ValueError, match="text.pth is not a checkpoint.*Check MODEL.WEIGHTS"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))


def test_half_a_checkpoint_is_named_with_its_size(tmp_path):
    path = tmp_path / "half.pth"
    save(path, {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="half.pth .* its 700 bytes are damaged, cut short"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))


def test_names_of_a_distributed_model_and_half_precision_load(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {f"module.{key}": value.half() for key, value in other.state_dict().items()}
    Checkpointer(model).load(save(tmp_path / "ddp.pth", state))
    assert torch.equal(model.weight, other.weight.half().float()) and model.weight.dtype == torch.float32


# ------------------------------------------------------------------ the frozen encoders


@pytest.fixture
def checkpoint(mini_model, tmp_path):
    (tmp_path / "run").mkdir()
    Checkpointer(mini_model, str(tmp_path / "run")).save("model_1", iteration=1)
    return tmp_path / "run" / "model_1.pth"


def rebuilt(cfg, *overrides):
    cfg = cfg.clone()
    cfg.merge_from_list(list(overrides))
    return build_model(cfg)


def test_a_checkpoint_names_the_frozen_encoders_and_does_not_hold_them(mini_model, mini_config, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content["frozen"] == describe_frozen(mini_model)
    assert not any(key.startswith(("sam.", "clip.")) for key in content["model"])
    model = rebuilt(mini_config)
    assert Checkpointer(model).load(str(checkpoint)) == {"iteration": 1}
    assert all(torch.equal(value, mini_model.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["MODEL.SAM.NAME", "vit_tiny", "MODEL.SAM.WEIGHTS", ""],
            r"over SAM mini \(fingerprint .* has SAM vit_tiny \(.*set MODEL.SAM.NAME mini and MODEL.SAM.WEIGHTS",
        ),
        (
            ["MODEL.SAM.WEIGHTS", ""],
            r"over SAM mini \(fingerprint .* has SAM mini \(fingerprint .*other weights.*set MODEL.SAM.WEIGHTS",
        ),
        (
            ["MODEL.CLIP.NAME", "mini_weak"],
            r"over CLIP mini_strong \(.* has CLIP mini_weak \(.*set MODEL.CLIP.NAME mini_strong and MODEL.CLIP.WEIGHTS",
        ),
        (
            ["MODEL.CLIP.INPUT_SCALE", "0.5"],
            "CLIP mini_strong .* at an input scale of 2.0, but the model's is 1.0: set MODEL.CLIP.INPUT_SCALE",
        ),
        (
            ["MODEL.SAM.WEIGHTS", "", "MODEL.CLIP.INPUT_SCALE", "0.5"],
            "over CLIP mini_strong.*; and over SAM mini",
        ),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_other_frozen_encoders_are_refused(mini_config, checkpoint, overrides, message, resume):
    model = rebuilt(mini_config, *overrides)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        Checkpointer(model, str(checkpoint.parent)).resume_or_load(str(checkpoint), resume=resume)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_that_does_not_say_its_encoders_is_refused_with_the_fix(mini_model, tmp_path):
    path = save(tmp_path / "old.pth", mini_model.state_dict())
    with pytest.raises(ValueError, match="does not say which frozen encoders.*describe_frozen"):
        Checkpointer(mini_model).load(path)
    torch.save({"model": mini_model.state_dict(), "frozen": describe_frozen(mini_model)}, path)
    assert Checkpointer(mini_model).load(path) == {}
    linear = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    torch.save({"model": linear, "frozen": {"clip": {"name": "x"}}}, path)
    with pytest.raises(ValueError, match="over CLIP x .*, but the model has no frozen CLIP"):
        Checkpointer(nn.Linear(3, 2)).load(path)


def test_safetensors_load_too(mini_model, mini_config, tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, mini_model)
    model = rebuilt(mini_config)
    assert Checkpointer(model).load(str(path)) == {}
    assert all(torch.equal(value, mini_model.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="has CLIP mini_weak"):
        Checkpointer(rebuilt(mini_config, "MODEL.CLIP.NAME", "mini_weak")).load(str(path))


def test_only_the_process_that_writes_computes_fingerprints(mini_model, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "describe_frozen", lambda _: pytest.fail("nothing is written here"))
    Checkpointer(mini_model, str(tmp_path), save_to_disk=False).save("model_1")
    Checkpointer(mini_model).save("model_1")
    assert list(tmp_path.glob("*.pth")) == []


def test_a_model_wrapped_for_distributed_training_is_described_and_checked(mini_model, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(mini_model)
        Checkpointer(wrapped, str(tmp_path)).save("model_1")
        assert torch.load(tmp_path / "model_1.pth", weights_only=True)["frozen"] == describe_frozen(mini_model)
        assert Checkpointer(wrapped).load(str(tmp_path / "model_1.pth")) == {}
    finally:
        torch.distributed.destroy_process_group()


# ------------------------------------------------------------------ no code


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def plant(path, place):
    content = {"model": {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, "trainer": Bomb(place)}
    if path.suffix in (".pth", ".pt", ".bin"):
        torch.save(content, path, _use_new_zipfile_serialization=path.stem != "legacy")
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("permissive", [False, True])
@pytest.mark.parametrize(
    "name", ["zip.pth", "legacy.pth", "zip.bin", "bare.pkl", "bare.pyth", "bare.safetensors", "bare", "bare.ckpt"]
)
def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch, name, permissive):
    """Detectron2 unpickles .pkl files, and torch everything where the environment says so."""
    if permissive:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, place = tmp_path / name, tmp_path / "bombed"
    plant(path, place)
    with pytest.raises(ValueError, match="is not"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))
    assert not place.exists()
    pickle.loads(pickle.dumps(Bomb(place)))
    assert place.exists()  # the bomb is live: it was the reader that did not set it off


def test_wishes_in_a_name_are_refused(tmp_path):
    """Detectron2 would match parameters by similar names, which is how wrong weights load quietly."""
    path = save(tmp_path / "a.pth", nn.Linear(3, 2).state_dict())
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        Checkpointer(nn.Linear(3, 2)).load(f"{path}?matching_heuristics=True")


# ------------------------------------------------------------------ saving that fails, and what resuming finds


class Progress:
    """A trainer of which a checkpoint keeps the iteration alone."""

    def __init__(self):
        self.iteration = -1

    def state_dict(self):
        return {"iteration": self.iteration}

    def load_state_dict(self, state):
        self.iteration = state["iteration"]


class Run:
    """A run in a folder: its weights are its iteration, everywhere."""

    def __init__(self, folder, **options):
        self.model, self.progress = nn.Linear(40, 500), Progress()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.checkpointer = Checkpointer(self.model, str(folder), trainer=self.progress, **options)

    def save(self, iteration, name=None):
        self.progress.iteration = iteration
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(iteration)
        self.checkpointer.save(name or f"model_{iteration:07d}", iteration=iteration)


def resumed(folder):
    """The iteration at which a run in the folder goes on, which has it everywhere; None: it starts anew."""
    run = Run(folder)
    found = run.checkpointer.has_checkpoint()
    run.checkpointer.resume_or_load("", resume=True)
    if not found:
        assert run.progress.iteration == -1
        return None
    assert all((parameter == run.progress.iteration).all() for parameter in run.model.parameters())
    return run.progress.iteration


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(function):
    """Call the function in a process that gets SIGKILL on the way; False if it came to its end instead."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_at(moment, *, after):
    """Die before or after the file that is put into its place as number `moment`; as number 0, while it is written."""
    replace, write, count = os.replace, checkpoint_module._Hashed.write, 0

    def replaced(source, target):
        nonlocal count
        count += 1
        if after:
            replace(source, target)
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        if not after:
            replace(source, target)

    def written(self, data):
        if moment == 0 and self.size > 40_000:
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, data)

    os.replace, checkpoint_module._Hashed.write = replaced, written


@pytest.mark.parametrize("name", [None, "model_final"])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, name):
    """At every moment: while the file is written, and before and after each renaming."""
    moments = [(0, True), *((moment, after) for moment in range(1, 9) for after in (False, True))]
    found = []
    for moment, after in moments:
        folder = tmp_path / f"{moment}-{after}"
        run = Run(folder)
        run.save(1, name)

        def save(run=run, moment=moment, after=after):
            kill_at(moment, after=after)
            run.save(2, name)

        dead = killed(save)
        found.append(resumed(folder))
        Run(folder).save(3, name)
        assert resumed(folder) == 3
        assert not [file for file in files(folder) if file.endswith(".pth.tmp")]  # nothing is left of the killed one
        if not dead:
            break
    else:
        pytest.fail("every save was killed, so there are more moments")
    assert set(found) == {1, 2} and found == sorted(found) and len(found) >= 7


@pytest.mark.parametrize(  # without the index, which alone knows each byte, files are read
    ("damage", "listed"),
    [("half", True), ("empty", True), ("flipped", True), ("gone", True), ("half", False), ("empty", False)],
)
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path, caplog, damage, listed):
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    path = tmp_path / "model_0000002.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt = {"half": content[: len(content) // 2], "empty": b"", "flipped": content}
    path.write_bytes(spoilt[damage]) if damage != "gone" else path.unlink()
    if not listed:
        (tmp_path / "manifest.json").unlink()
    assert resumed(tmp_path) == 1
    assert str(path.name) in caplog.text and "going on from" in caplog.text and "model_0000001.pth" in caplog.text
    with pytest.raises((ValueError, FileNotFoundError), match="model_0000002.pth"):
        run.checkpointer.load(str(path))


@pytest.mark.parametrize(
    ("pointer", "warned"),
    [
        (b"", "is empty or missing"),
        (b"\0\0\0\0", "is empty or missing"),
        (None, "is empty or missing"),
        (b"model_0000001.pth", "names model_0000001.pth"),
        (b"model_9999999.pth", "names model_9999999.pth, which is not there"),
        (b"../other", "names ../other, which is not there"),
        (b"\xff\xfe", "which is not there"),
        (b"model_0000002.pth\n", ""),
    ],
)
def test_a_pointer_file_that_is_empty_or_stale_is_not_believed(tmp_path, caplog, pointer, warned):
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    place = tmp_path / "last_checkpoint"
    place.write_bytes(pointer) if pointer is not None else place.unlink()
    assert resumed(tmp_path) == 2
    assert warned in caplog.text and bool(warned) == any(record.levelname == "WARNING" for record in caplog.records)


def test_the_last_saved_is_the_newest_whatever_its_number_and_wherever_it_is_copied(tmp_path):
    run = Run(tmp_path / "run")
    for iteration in (700, 3, 5):
        run.save(iteration)
    assert resumed(tmp_path / "run") == 5
    shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "model_0000700.pth", (4e9, 4e9))
    assert resumed(tmp_path / "copy") == 5
    (tmp_path / "copy" / "manifest.json").write_text("{")  # then the pointer file says it
    assert resumed(tmp_path / "copy") == 5


def test_a_clock_that_is_set_back_does_not_make_a_checkpoint_old(tmp_path, monkeypatch):
    run = Run(tmp_path, keep=1)
    run.save(1)
    monkeypatch.setattr("time.time", lambda: 1e9)
    run.save(2)
    assert resumed(tmp_path) == 2
    assert [name for name in files(tmp_path) if name.endswith(".pth")] == ["model_0000002.pth"]


def test_weights_alone_are_not_gone_on_from(tmp_path, caplog):
    run = Run(tmp_path)
    run.save(1)
    torch.save({"model": run.model.state_dict()}, tmp_path / "weights.pth")
    os.utime(tmp_path / "weights.pth", (4e9, 4e9))
    assert resumed(tmp_path) == 1
    assert "weights.pth cannot be gone on from: it holds no 'trainer'" in caplog.text


def test_nothing_to_go_on_from_starts_anew_but_nothing_whole_does_not(tmp_path):
    assert resumed(tmp_path) is None
    (tmp_path / "last_checkpoint").write_text("model_0000004.pth")
    with pytest.raises(ValueError, match="is whole: .*names model_0000004.pth, which is not there.*without --resume"):
        resumed(tmp_path)
    Run(tmp_path).save(1)
    (tmp_path / "model_0000001.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is whole: .*model_0000001.pth is damaged: it has 0 bytes"):
        resumed(tmp_path)


def test_a_damaged_file_is_passed_over_where_weights_are_all_there_is_to_load(tmp_path):
    checkpointer = Checkpointer(nn.Linear(3, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    (tmp_path / "model_0000002.pth").write_bytes(b"")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")


def test_a_file_that_was_replaced_is_refused_until_the_index_forgets_it(tmp_path):
    run = Run(tmp_path)
    run.save(1)
    path = tmp_path / "model_0000001.pth"
    torch.save({"model": nn.Linear(40, 500).state_dict()}, path)
    with pytest.raises(ValueError, match="manifest.json beside it says.*if you replaced the file yourself, delete"):
        run.checkpointer.load(str(path))
    index = json.loads((tmp_path / "manifest.json").read_text())
    del index["model_0000001.pth"]
    (tmp_path / "manifest.json").write_text(json.dumps(index))
    run.checkpointer.load(str(path), checkpointables=[])


# ------------------------------------------------------------------ earlier runs in the folder


def test_a_new_run_is_not_gone_on_from_an_earlier_one_whose_files_stay(tmp_path):
    earlier = Run(tmp_path)
    earlier.save(1)
    earlier.save(2, "model_final")
    run = Run(tmp_path, keep=1)
    assert run.checkpointer.begin() == str(tmp_path / "model_final.pth")
    assert resumed(tmp_path) is None  # it was killed before its first checkpoint
    (tmp_path / "manifest.json").unlink()
    assert resumed(tmp_path) is None
    run.save(0)
    assert resumed(tmp_path) == 0
    run.save(3)
    assert resumed(tmp_path) == 3
    assert [name for name in files(tmp_path) if name.endswith(".pth")] == [
        "model_0000001.pth", "model_0000003.pth", "model_final.pth"
    ]  # fmt: skip
    run.save(4, "model_final")
    (tmp_path / "model_0000003.pth").unlink()
    assert resumed(tmp_path) == 4
    Run(tmp_path).checkpointer.begin()
    assert resumed(tmp_path) is None
    (tmp_path / "earlier_checkpoints.json").unlink()  # as the warning says
    assert resumed(tmp_path) == 4


def test_a_stale_pointer_of_an_earlier_run_does_not_stop_a_new_one(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000004.pth")
    assert Run(tmp_path).checkpointer.begin() == ""
    assert resumed(tmp_path) is None
    assert (tmp_path / "last_checkpoint.earlier").read_text() == "model_0000004.pth"


def test_a_damaged_list_of_earlier_checkpoints_stops_resuming(tmp_path):
    Run(tmp_path).save(1)
    (tmp_path / "earlier_checkpoints.json").write_text("")
    with pytest.raises(ValueError, match="earlier_checkpoints.json is not valid JSON"):
        resumed(tmp_path)


class Checked(Progress):
    def check_state_dict(self, state):
        raise ValueError(f"iteration {state['iteration']} is of another run")


def test_what_is_resumed_is_checked_before_anything_is_loaded_and_weights_alone_are_not(tmp_path):
    run = Run(tmp_path)
    run.save(1)
    model = nn.Linear(40, 500)
    checkpointer = Checkpointer(model, str(tmp_path), trainer=Checked())
    before = model.weight.clone()
    with pytest.raises(ValueError, match="iteration 1 is of another run"):
        checkpointer.resume_or_load("", resume=True)
    assert torch.equal(model.weight, before)
    checkpointer.resume_or_load(str(tmp_path / "model_0000001.pth"), resume=False)
    assert (model.weight == 1).all()


# ------------------------------------------------------------------ disks, folders, old checkpoints


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path):
    """The limit on a file's size stops the writing itself, as a full disk does."""
    run = Run(tmp_path)
    run.save(1)
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="model_0000002.pth was not saved \\(File too large.*before are as they were"):
            run.save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == before and resumed(tmp_path) == 1
    assert run.progress.iteration == 2 and (run.model.weight == 2).all()  # what is in memory is as it was, too
    run.save(2)
    assert resumed(tmp_path) == 2


def test_a_folder_that_cannot_be_written_to_is_named_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    checkpointer = Checkpointer(nn.Linear(3, 2), str(tmp_path / "file" / "run"))
    with pytest.raises(OSError, match="cannot be written to .*file/run .*; set OUTPUT_DIR"):
        checkpointer.check_folder()
    with pytest.raises(OSError, match="was not saved"):
        checkpointer.save("model_1")
    run = Run(tmp_path / "run")
    run.checkpointer.check_folder()
    assert files(tmp_path / "run") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match="has 0 MiB left, but a checkpoint needs"):
        run.checkpointer.check_folder()
    Checkpointer(nn.Linear(3, 2), str(tmp_path / "file"), save_to_disk=False).check_folder()


def test_old_periodic_checkpoints_go_and_no_others(tmp_path):
    run = Run(tmp_path, keep=2)
    run.save(0, "model_best")
    run.save(0, "model_final")
    run.save(900)  # of an earlier run in the folder
    for iteration in range(1, 5):
        run.save(iteration)
    kept = ["model_0000003.pth", "model_0000004.pth", "model_best.pth", "model_final.pth"]
    assert files(tmp_path) == ["last_checkpoint", "manifest.json", *kept]
    assert sorted(json.loads((tmp_path / "manifest.json").read_text())) == kept
    assert resumed(tmp_path) == 4
    with pytest.raises(ValueError, match="SOLVER.MAX_TO_KEEP is -1"):
        Run(tmp_path, keep=-1)


def test_a_checkpoint_that_cannot_be_deleted_is_named_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    run = Run(tmp_path, keep=1)
    run.save(1)

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        run.save(2)
    assert "model_0000001.pth could not be deleted (Permission denied)" in caplog.text
    assert resumed(tmp_path) == 2
    run.save(3)
    assert [name for name in files(tmp_path) if name.endswith(".pth")] == ["model_0000003.pth"]


def test_the_scale_of_mixed_precision_is_kept(tmp_path):
    def trainer():
        model = nn.Linear(3, 2)
        step = TrainingStep(
            model=model, loader=[], optimizer=torch.optim.AdamW(model.parameters()), precision=torch.float16
        )
        return step, step.scaler

    saved, scaler = trainer()
    scaler.scale(torch.zeros(()))  # the scale is made when it is first used
    scaler.update(512.0)
    Checkpointer(saved.model, str(tmp_path), trainer=saved).save("model_0000001")
    other, others = trainer()
    Checkpointer(other.model, str(tmp_path), trainer=other).resume_or_load("", resume=True)
    assert others.state_dict() == scaler.state_dict() and others.get_scale() == 512.0


# ------------------------------------------------------------------ what it was trained on


class Trained(nn.Linear):
    """A model that knows its training vocabulary."""

    def __init__(self, *words):
        super().__init__(3, 2)
        self.train_vocabulary = Vocabulary.from_names(words, name="+".join(words))


def saved_by(folder, *words):
    Checkpointer(Trained(*words), str(folder), trainer=nn.Linear(1, 1)).save("model_final")
    return str(folder / "model_final.pth")


def test_what_was_seen_goes_by_the_checkpoint_and_not_by_the_configuration(tmp_path, caplog):
    path, model = saved_by(tmp_path, "cat", "dog"), Trained("cat", "bus")
    assert "vocabulary" not in Checkpointer(model).load(path)
    assert model.train_vocabulary == Vocabulary.from_names(["cat", "dog"], name="cat+dog")
    assert "trained on the vocabulary cat+dog, but" in caplog.text
    assert "give cat+bus: class number 1 is 'dog' and 'bus'" in caplog.text
    caplog.clear()
    model.train_vocabulary = Vocabulary.from_names(["cat", "dog"], name="pets")
    Checkpointer(model).load(path)
    assert model.train_vocabulary.name == "pets" and not caplog.text, "equal classes, whatever they are called"


def test_a_training_starts_from_another_vocabulary_but_does_not_go_on_from_it(tmp_path, caplog):
    path, model = saved_by(tmp_path, "cat", "dog"), Trained("cat", "bus")
    trainer = Checkpointer(model, trainer=nn.Linear(1, 1))
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"on the vocabulary cat\+dog, but .* give cat\+bus: .*MODEL.WEIGHTS"):
        trainer.load(path)
    assert torch.equal(model.weight, before)
    trainer.resume_or_load(path, resume=False)
    assert model.train_vocabulary.name == "cat+bus" and not torch.equal(model.weight, before)
    assert "classes of the former alone will count as unseen" in caplog.text


def test_checkpoints_that_do_not_say_their_vocabulary_load_as_ever_and_wrong_ones_do_not(tmp_path, caplog):
    model, state = Trained("cat"), nn.Linear(3, 2).state_dict()
    Checkpointer(model).load(save(tmp_path / "old.pth", state))
    assert model.train_vocabulary.names == ("cat",) and not caplog.text
    torch.save({"model": state, "vocabulary": {"name": "x", "classes": 3}}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="vocabulary of The checkpoint .*odd.pth: classes must be of type list"):
        Checkpointer(model).load(str(tmp_path / "odd.pth"))


def test_the_file_of_a_saved_folder_brings_its_vocabulary(mini_model, mini_config, tmp_path, caplog):
    mini_model.train_vocabulary = Vocabulary.from_names(["cat"], name="cats")
    folder = mini_model.save_pretrained(tmp_path / "saved")
    model = build_model(mini_config)
    Checkpointer(model).load(str(folder / "model.safetensors"))
    assert model.train_vocabulary == mini_model.train_vocabulary and "on the vocabulary cats" in caplog.text


# ------------------------------------------------------------------ NaN and infinity


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_parameters_that_are_not_finite_are_refused(tmp_path, value, suffix):
    model, path = nn.Linear(3, 2), tmp_path / f"diverged{suffix}"
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state["weight"][0, :2] = value
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    before = model.weight.clone()
    for loader in (Checkpointer(model), Checkpointer(model, trainer=nn.Linear(1, 1))):
        with pytest.raises(ValueError, match=rf"diverged{suffix} holds .*NaN or infinite: weight \(2 of 6 values\)"):
            loader.load(str(path))
    assert torch.equal(model.weight, before)


def test_a_model_that_has_diverged_is_not_saved(tmp_path):
    model = nn.Linear(3, 2)
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_0000001")
    before = sorted(path.name for path in tmp_path.iterdir())
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(FloatingPointError, match=r"model_0000002 is not saved: .*bias \(2 of 2 values\)"):
        checkpointer.save("model_0000002")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(ValueError, match=r"model.safetensors is not written: .*bias \(2 of 2 values\)"):
        write_safetensors(tmp_path / "model.safetensors", model)
    assert not (tmp_path / "model.safetensors").exists()
