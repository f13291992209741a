from cxr_platform.errors import ConfigError, TrialsFailed
from pipelines.command import run_command


def test_the_function_s_exit_code_is_returned():
    assert run_command(lambda: 3) == 3


def test_an_error_becomes_one_line_and_its_exit_code(capsys):
    def refuse() -> int:
        raise ConfigError("Expected a profile.", received="'x'", advice="Give another.")

    assert run_command(refuse) == 2
    assert capsys.readouterr().err == "Expected a profile. Received: 'x'. Give another.\n"


def test_failed_trials_have_a_code_of_their_own():
    def fail() -> int:
        raise TrialsFailed("2 of 24 trials failed.")

    assert run_command(fail) == 1


def test_ctrl_c_is_130(capsys):
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    assert "Interrupted" in capsys.readouterr().err
