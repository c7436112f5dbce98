"""The README of a saved model tells what it is and how well it does."""

import pytest

from possam.models.state import describe_frozen


def test_it_names_the_encoders_and_the_training_vocabulary(mini_model, tmp_path):
    text = (mini_model.save_pretrained(tmp_path / "model") / "README.md").read_text(encoding="utf-8")
    assert all(entry["fingerprint"] in text for entry in describe_frozen(mini_model).values())
    assert "mini_a: 24 kinds of things and 6 of stuff. plain circle, striped circle," in text
    assert "Trained on mini_a_train." in text and "No evaluation is recorded." in text
    assert "None is stated for the parameters" in text and "license:" not in text.split("---")[1]
    assert "reads drawings of its own world alone" in text.split("## Limits")[1]


def test_it_states_the_license(mini_model, tmp_path):
    folder = mini_model.save_pretrained(tmp_path / "model", license="apache-2.0")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0\n" in text.split("---")[1] and "The parameters in this folder: apache-2.0." in text


def test_it_reports_results_dataset_by_dataset(mini_model, tmp_path):
    results = {
        "mini_b_report": {"PQ": 67.43, "PQ seen": None, "AP": float("nan")},
        "other": {"PQ": 1.0, "mIoU": 12.34},
    }
    text = (mini_model.save_pretrained(tmp_path / "model", results=results) / "README.md").read_text(encoding="utf-8")
    lines = text.split("In percent:")[1].split("##")[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["dataset", "PQ", "PQ seen", "AP", "mIoU"]
    assert rows[2:] == [["mini_b_report", "67.4", "–", "–", "–"], ["other", "1.0", "–", "–", "12.3"]]


@pytest.mark.parametrize("results", [{}, {"panoptic_seg": {"PQ": 1.0}}, {"PQ": "12"}, 12.3])
def test_results_that_are_no_numbers_are_refused_before_anything_is_written(mini_model, tmp_path, results):
    with pytest.raises(ValueError, match="results of 'a' must be numbers .*headline_metrics makes them"):
        mini_model.save_pretrained(tmp_path / "model", results={"a": results})
    assert not (tmp_path / "model").exists()
