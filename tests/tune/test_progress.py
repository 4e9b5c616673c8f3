from noworse.tune.progress import ProgressLine, stage


def test_a_stage_has_no_size() -> None:
    assert stage("survey") == ProgressLine("survey", 0, 1, 0, 0, 0, 0)
    assert stage("start", 3, 7) == ProgressLine("start", 3, 7, 0, 0, 0, 0)
