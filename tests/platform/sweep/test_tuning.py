"""How trials are given to Ray Tune."""

from ray.tune.execution.class_cache import _ActorClassCache

from genloom_platform.sweep import tuning


class Trainable:
    pass


def test_trials_are_given_none_of_this_process_s_secrets(monkeypatch):
    """Ray shows a runtime environment in each machine's log."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    tuning.keep_secrets()
    given = _ActorClassCache().get(Trainable)._default_options["runtime_env"]["env_vars"]
    assert "RAY_TRAIN_V2_ENABLED" in given
    assert "hush-hush" not in given.values()
