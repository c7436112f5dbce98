"""The command `possam`: its help, what it prints, its exit codes; errors of users are a sentence, no traceback."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from possam import __version__
from possam.cli import COMMANDS, build_parser, main
from possam.cli import share as share_command
from possam.cli import submit as submit_command
from possam.cli.parsing import path_option
from possam.config import config_folder, find_config
from tests.layouts import make_ade20k, make_coco

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same
    import tomli as tomllib

LEAVES = (
    ("report",),
    ("share",),
    ("submit",),
    ("data", "list"),
    ("data", "doctor"),
    ("data", "prepare"),
    ("weights", "list"),
    ("weights", "download"),
    ("weights", "verify"),
    ("configs", "verify"),
    ("configs", "keys"),
)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- words


def help_of(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("data",), ("weights",), ("configs",), *LEAVES], ids=" ".join)
def test_every_help_has_examples_that_parse(words, capsys):
    text = help_of(words, capsys)
    examples = [line.split() for line in text.split("examples:\n")[1].splitlines()]
    assert examples
    for example in examples:
        assert example[: len(words) + 1] == ["possam", *words]
        assert build_parser().parse_args(example[1:]).run is not None


def all_actions(parser):
    for action in parser._actions:
        for below in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from all_actions(below)
        yield action


def test_the_home_folder_is_written_out_in_every_path():
    paths = [action for action in all_actions(build_parser()) if action.metavar in ("DIR", "PATH", "CONFIG")]
    assert len(paths) > 12
    settings = {"--weights"}  # MODEL.WEIGHTS is written out where it goes to
    assert all(action.type is path_option or settings & {*action.option_strings} for action in paths)


@pytest.mark.parametrize("words", [(), ("data",), ("weights",), ("configs",)], ids=" ".join)
def test_a_word_that_needs_another_prints_its_help(words, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "COMMAND" in shown.err and "examples:" in shown.err


def test_an_unknown_word(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "doktor"])
    assert stopped.value.code == 2
    assert "invalid choice: 'doktor'" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"possam {__version__}\n"


def test_help_needs_nothing_heavy():
    heavy = ["torch", "numpy", "PIL", "rich", "detectron2"]
    done = python(f"import sys, possam.cli; possam.cli.build_parser(); print([m for m in {heavy} if m in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "possam", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"possam {__version__}\n"


# ---------------------------------------------------------------- errors


def raising(error):
    def run(arguments):
        raise error

    return run


CHECK = "check the path and its rights."
FREE = "free some space or write to another disk."


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("x must be y"), 1, "error: x must be y\n"),
        (FileNotFoundError("a is not there"), 1, "error: a is not there\n"),
        (PermissionError(13, "Permission denied", "/root/a"), 1, f"error: /root/a: Permission denied; {CHECK}\n"),
        (FileNotFoundError(2, "No such file", "/root/a"), 1, f"error: /root/a: No such file; {CHECK}\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (OSError(28, "No space left", "/full/a"), 1, f"error: /full/a: No space left; {FREE}\n"),
        (OSError(122, "Disk quota exceeded", "/full/a"), 1, f"error: /full/a: Disk quota exceeded; {FREE}\n"),
        (ImportError("Detectron2 is not installed", name="detectron2"), 1, "error: Detectron2 is not installed\n"),
        (ConnectionError("cannot fetch sam_vit_b"), 1, "error: cannot fetch sam_vit_b\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_are_one_sentence(error, code, said, monkeypatch, capsys):
    monkeypatch.setattr("possam.cli.data.run_list", raising(error))
    assert main(["data", "list"]) == code
    assert capsys.readouterr() == ("", said)


def test_errors_of_the_program_are_not_hidden(monkeypatch):
    monkeypatch.setattr("possam.cli.data.run_list", raising(KeyError("a bug")))
    with pytest.raises(KeyError):
        main(["data", "list"])


@pytest.mark.parametrize("lines", [1, 9999])
def test_a_reader_that_goes_away_is_no_error(lines):
    code = (
        "import sys, possam.cli.data as data; from possam.cli import main; "
        f"data.run_list = lambda _: print('line\\n' * {lines}) or 0; sys.exit(main(['data', 'list']))"
    )
    command = f'{shlex.quote(sys.executable)} -c "{code}" | true'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# ---------------------------------------------------------------- data


def test_list(tmp_path, capsys):
    make_coco(tmp_path)
    assert main(["data", "list", "--root", str(tmp_path)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert lines["coco_panoptic_val"][1:] == ["panoptic,", "semantic,", "instance", "133", "5,000", "yes"]
    assert lines["ade20k_semantic_val"][1:] == ["semantic", "150", "2,000", "no", "ade20k_semantic"]


def test_list_as_json(tmp_path, capsys):
    assert main(["data", "list", "--root", str(tmp_path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["root"] == str(tmp_path)
    assert {"name": "lvis_866_337_val", "tasks": ["instance"], "classes": 1203, "images": 19809, "there": "no"} == {
        key: value for key, value in content["datasets"][-1].items() if key != "preparation"
    }


def test_doctor_of_what_is_not_there(tmp_path, capsys):
    assert main(["data", "doctor", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    line = next(line for line in shown.out.splitlines() if line.startswith("ade20k_semantic_val"))
    assert line.startswith("ade20k_semantic_val: not there")
    assert line.endswith(f"Run: possam data prepare ade20k_semantic --root {tmp_path}")
    assert main(["data", "doctor", "ade20k_semantic_val", "--root", str(tmp_path)]) == 1


def test_doctor_says_where_what_and_fix(tmp_path, capsys):
    make_coco(tmp_path)
    (tmp_path / "coco/val2017/000000000201.jpg").write_bytes(b"")
    assert main(["data", "doctor", "coco_instance_val", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "coco_instance_val: 2 problems",
        f"  {tmp_path}/coco/annotations/instances_val2017.json",
        "    instances_val2017.json annotates 2 images, 5,000 are expected",
        f"  {tmp_path}/coco/val2017/000000000201.jpg",
        "    images do not decode: 000000000201.jpg: the file is empty",
        "    → Download val2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them in coco/.",
    ]


def test_doctor_of_a_good_tree_as_text_and_json(tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    from possam.data.datasets import SPECS

    make_coco(tmp_path)
    monkeypatch.setitem(SPECS, "coco_panoptic_val", replace(SPECS["coco_panoptic_val"], images=2))
    words = ["data", "doctor", "coco_panoptic_val", "--root", str(tmp_path), "--full"]
    assert main(words) == 0
    assert capsys.readouterr().out == "coco_panoptic_val: well\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "root": str(tmp_path),
        "full": True,
        "datasets": [{"name": "coco_panoptic_val", "state": "well", "images": 2, "problems": []}],
    }


def test_doctor_as_json_has_all_problems(tmp_path, capsys):
    make_coco(tmp_path)
    assert main(["data", "doctor", "--root", str(tmp_path), "--json"]) == 1
    states = {dataset["name"]: dataset for dataset in json.loads(capsys.readouterr().out)["datasets"]}
    assert states["coco_panoptic_val"]["state"] == "ill"
    assert states["coco_panoptic_val"]["problems"][0]["kind"] == "annotated"
    assert states["coco_stuff_val"]["state"] == "not there"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "doctor", "coco_panoptic_vall"], "Did you mean 'coco_panoptic_val'?"),
        (["data", "doctor", "--root", "/nowhere"], "the folder of the datasets /nowhere does not exist"),
        (["data", "prepare", "ade20k_semantics"], "Did you mean 'ade20k_semantic'?"),
        (["data", "prepare", "pascal_voc", "--splits", "test"], "pascal_voc has no split 'test'"),
        (["weights", "download", "sam_vit_x"], "sam_vit_b"),
        (["weights", "download", "sam_vit_h", "ovsam_coca"], "Did you mean 'ovsam_coco'?"),
        (["weights", "verify", "nothing.pth"], "there is no file nothing.pth"),
        (["configs", "verify", "nothing.yaml"], "nothing.yaml: error: "),
        (["configs", "verify", "/nowhere"], "There is no folder /nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_of_users(words, said, capsys):
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_a_number_of_processes(capsys):
    with pytest.raises(SystemExit):
        main(["data", "doctor", "--processes", "0"])
    assert "expected a number from 1, got '0'" in capsys.readouterr().err


def test_prepare(tmp_path, capsys):
    make_ade20k(tmp_path)
    words = ["data", "prepare", "ade20k_semantic", "--splits", "val", "--root", str(tmp_path), "--processes", "1"]
    assert main(words) == 0
    assert capsys.readouterr() == ("ade20k_semantic: wrote 2 files\n", "")
    assert len(list(tmp_path.glob("ADEChallengeData2016/annotations_detectron2/validation/*.png"))) == 2
    assert not (tmp_path / "ADEChallengeData2016/annotations_detectron2/training").exists()
    assert main(words) == 0
    assert capsys.readouterr().out == "ade20k_semantic: nothing to do: all 2 files are there already\n"
    assert main([*words, "--overwrite"]) == 0
    assert main(["data", "prepare", "ade20k_semantic", "--root", str(tmp_path / "no")]) == 1
    assert "ADEChallengeData2016" in capsys.readouterr().err


# ---------------------------------------------------------------- weights and configs


def test_weights_list(tmp_path, capsys):
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"half")
    assert main(["weights", "list", "--folder", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "375 MB" in lines["sam_vit_b"] and " yes " in lines["sam_vit_b"]
    assert " no " in lines["sam_vit_h"]


def test_weights_download_and_verify(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "possam.encoders.downloads.download", lambda name, folder: seen.append((name, folder)) or folder / name
    )
    assert main(["weights", "download", "RN50", "RN101", "RN50", "--folder", str(tmp_path)]) == 0
    assert seen == [("RN50", tmp_path), ("RN101", tmp_path)]
    assert capsys.readouterr().out == f"{tmp_path}/RN50\n{tmp_path}/RN101\n"
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"half")
    monkeypatch.setattr("possam.encoders.weight_files.file_sha256", lambda path: "0" * 64)
    assert main(["weights", "verify", str(tmp_path / "sam_vit_b_01ec64.pth"), str(tmp_path / "other")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "sam_vit_b_01ec64.pth is not right" in said[0] and "there is no file" in said[1]


def test_configs_verify(tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(f"_BASE_: {Path('configs/mini/possam.yaml').absolute()}\nMODEL:\n  SAMM: 1\n")
    assert main(["configs", "verify", "configs/mini/possam.yaml", str(wrong)]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("configs/mini/possam.yaml: PosSAM, ")
    assert shown.err.splitlines()[0].startswith(f"{wrong}: error: ") and "SAMM" in shown.err
    assert shown.err.splitlines()[-1] == "1 of 2 configurations cannot be run"
    assert main(["configs", "verify", "configs/mini"]) == 0


def test_configs_keys(capsys):
    assert main(["configs", "keys", "--architecture", "FcClip"]) == 0
    shown = capsys.readouterr().out
    assert "MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK False\n" in shown and "MODEL.SAM" not in shown
    assert "TEST.BATCH_SIZE 1\n    images of a forward pass (at least 1)\n" in shown
    assert main(["configs", "keys"]) == 0
    assert "MODEL.SAM.NAME 'vit_b'\n    image encoder of SAM (one of: vit_b, vit_l, " in capsys.readouterr().out
    assert main(["configs", "keys", "--architecture", "FcClop"]) == 1
    assert "Did you mean 'FcClip'?" in capsys.readouterr().err


def test_a_subcommand_is_one_module_with_one_function():
    assert all(callable(command.add_command) for command in COMMANDS)


def test_settings_may_stand_before_and_behind_options(monkeypatch):
    seen = []
    monkeypatch.setattr("possam.cli.train.run_train", lambda arguments: seen.append(arguments.settings) or 0)
    for line in ("train a.yaml K 1 --resume", "train a.yaml --resume K 1", "train a.yaml K 1 --num-gpus 2 L 2"):
        assert main(line.split()) == 0
    assert seen == [["K", "1"], ["K", "1"], ["K", "1", "L", "2"]]
    with pytest.raises(SystemExit):
        main("train a.yaml --resume K 1 --what".split())
    with pytest.raises(SystemExit):
        main("data list extra".split())


def test_configurations_may_follow_the_first(monkeypatch):
    seen = []
    monkeypatch.setattr("possam.cli.job.run_job", lambda job: seen.append((job.config_file, job.opts)))
    assert main("train a.yaml K b.yaml".split()) == 0
    assert main("train a.yaml b.yml --resume c.yaml K 1".split()) == 0
    assert main("eval a b.yaml --weights w.pth K 1".split()) == 0
    assert seen == [
        (["a.yaml"], ["K", "b.yaml"]),
        (["a.yaml", "b.yml", "c.yaml"], ["K", "1"]),
        (["a", "b.yaml"], ["K", "1", "MODEL.WEIGHTS", "w.pth"]),
    ]


def test_a_test_set_is_verified_over_a_model(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("DATASETS: {TEST: [mini_b_report]}\nTEST: {TASKS: [semantic], NUM_VISUALIZATIONS: 0}\n")
    assert main(["configs", "verify", str(tmp_path), "--model", "configs/mini/possam.yaml"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"configs/mini/possam.yaml + {mine}: PosSAM, ") and "classes: semantic)" in shown
    assert main(["configs", "verify", "configs/eval/lvis.yaml"]) == 0
    assert capsys.readouterr().out.startswith("configs/coco/possam_vit_b.yaml + configs/eval/lvis.yaml: PosSAM, ")
    mine.write_text("DATASETS: {TEST: [mini_b_report]}\nTEST: {TASK: [semantic]}\n")
    assert main(["configs", "verify", str(mine), "--model", "configs/mini/possam.yaml"]) == 1
    assert f"{mine}: error: {mine}: " in capsys.readouterr().err


def test_a_folder_without_configurations_is_told(tmp_path, capsys):
    assert main(["configs", "verify", str(tmp_path)]) == 1
    assert "no configuration" in capsys.readouterr().err


# ---------------------------------------------------------------- outside of a clone


def test_configurations_of_the_package_are_found_from_any_folder(tmp_path, monkeypatch):
    own = config_folder() / "mini" / "possam.yaml"
    monkeypatch.chdir(tmp_path)
    assert find_config("mini/possam.yaml") == find_config("configs/mini/possam.yaml") == own and own.is_file()
    assert find_config("configs") == config_folder()
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "possam.yaml").write_text("VERSION: 2\n")
    assert find_config("mini/possam.yaml") == Path("mini/possam.yaml")  # one's own comes first
    assert find_config("mini/none.yaml") == Path("mini/none.yaml")


def test_the_wheel_has_all_configurations():
    """setup.py maps configs/ to possam/configs, where `config_folder` looks first."""
    setup = (config_folder().parent / "setup.py").read_text()
    assert '"possam.configs": "configs"' in setup and len(setup.splitlines()) == 3
    (pattern,) = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "possam.configs"
    ]
    files = {path for path in config_folder().rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files == set(config_folder().glob(pattern))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_options(shell, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert stopped.value.code == 0 and "doctor" in script and "--push-to-hub" in script


def test_commands_hand_their_words_on(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr("possam.report.write_report", lambda folder, **options: asked.update(options, folder=folder))
    assert main(["report", str(tmp_path), "--images", "3"]) == 0
    assert asked == {"folder": tmp_path, "dataset": None, "output": None, "images": 3}
    monkeypatch.setattr(share_command, "share", lambda arguments, *words: asked.update(words=words) or 0)
    assert main(["share", "a.yaml", "b.yaml", "TEST.TASKS", "[]", "--weights", "w.pth", "--output", "out"]) == 0
    assert asked["words"] == (["a.yaml", "b.yaml"], ["TEST.TASKS", "[]", "MODEL.WEIGHTS", "w.pth"])
    job = argparse.Namespace(job_id=7, paths=argparse.Namespace(stdout="log"))
    monkeypatch.setattr(submit_command, "submit", lambda arguments: asked.update(vars(arguments)) or job)
    assert main(["submit", "a.yaml", "--nodes", "2", "OUTPUT_DIR", "out"]) == 0
    assert asked["config_file"] == ["a.yaml"] and asked["opts"] == ["OUTPUT_DIR", "out"] and asked["nodes"] == 2


def test_an_empty_or_unset_path_is_named(monkeypatch, capsys):
    monkeypatch.delenv("NOWHERE", raising=False)
    for given, message in (("", "the path is empty; give one, such as"), ("$NOWHERE/a", r"$NOWHERE, which is not set")):
        with pytest.raises(SystemExit):
            main(["segment", "a.png", "--classes", "cat", "--output", given])
        assert message in capsys.readouterr().err
