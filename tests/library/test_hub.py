"""Push and pull against a local stand-in for the hub, through the real client."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import Hub, running_hub

from library import Direction, Library
from library.errors import BadFile, DamagedFile, HubError
from library.hub import pull, push

Make = Callable[..., Direction]
REPO = "user/directions"
ENCODER = "clip-tiny-1a2b3c4d"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def api(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    return huggingface_hub.HfApi(endpoint=hub.url, token="hf_test")


@pytest.fixture
def other(tmp_path: Path) -> Library:
    return Library(tmp_path / "other", search_path=())


def test_what_is_pushed_is_pulled_byte_for_byte(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    for seed, name in enumerate(("cat2dog", "cat2dog", "猫2犬")):
        library.save(make(name, seed=seed, record={"author": "ann"}))
    pushed = push(library, REPO, ["cat2dog@1", "cat2dog", "猫2犬"], api=api)
    assert len(pushed.sent) == 3 and pushed.present == []
    assert hub.at(REPO, "main") == (pushed.commit, hub.commits[REPO][-1][1])
    pulled = pull(other, REPO, api=api)
    assert [(d.ref, new) for d, new in pulled.versions] == [
        ("cat2dog@1", True),
        ("cat2dog@2", True),
        ("猫2犬@1", True),
    ]
    back = other.load("cat2dog@2")
    assert (
        back.record["sha256"] == library.load("cat2dog@2").record["sha256"] and back.record["author"] == "ann"
    )
    assert back.record["origin"] == {"repo": REPO, "commit": pushed.commit, "ref": "cat2dog@2"}
    assert not any(new for _, new in pull(other, REPO, api=api).versions), "pulling twice doubles nothing"


def test_pushing_twice_sends_nothing(library: Library, make: Make, hub: Hub, api: Any) -> None:
    library.save(make())
    first = push(library, REPO, ["cat2dog"], api=api)
    again = push(library, REPO, ["cat2dog"], api=api)
    assert again.sent == [] and len(again.present) == 1 and again.commit == first.commit


def test_a_push_that_was_overtaken_looks_again(library: Library, make: Make, hub: Hub, api: Any) -> None:
    library.save(make())
    overtakers = [{"b2c/x/readme": b"1"}, {"b2c/x/readme": b"2"}]

    def overtake() -> None:
        if overtakers:
            hub.commit(REPO, overtakers.pop())

    hub.before_commit = overtake
    pushed = push(library, REPO, ["cat2dog"], api=api)
    files = hub.commits[REPO][-1][1]
    assert pushed.sent[0] in files and files["b2c/x/readme"] == b"1", "nothing of the others is lost"
    assert sum("/commit/" in path for path in hub.posts) == 3


def test_a_push_that_is_always_overtaken_gives_up(library: Library, make: Make, hub: Hub, api: Any) -> None:
    library.save(make())
    count = iter(range(100))
    hub.before_commit = lambda: hub.commit(REPO, {"x": str(next(count)).encode()}) and None
    with pytest.raises(HubError, match=r"others pushed \d+ times in between; try again"):
        push(library, REPO, ["cat2dog"], api=api)


def test_a_number_that_means_another_direction_is_refused(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    other.save(make(seed=1))
    push(library, REPO, ["cat2dog"], api=api)
    with pytest.raises(HubError, match="a version never changes"):
        push(other, REPO, ["cat2dog"], api=api)
    pull(other, REPO, api=api)
    assert [v.version for v in other.versions("cat2dog")] == [1, 2]


def test_pulling_pins_a_revision_and_chooses_names(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    first = push(library, REPO, ["cat2dog"], api=api)
    library.save(make(seed=1))
    library.save(make("day2winter"))
    push(library, REPO, ["cat2dog@2", "day2winter"], api=api)
    assert [d.ref for d, _ in pull(other, REPO, revision=first.commit, api=api).versions] == ["cat2dog@1"]
    assert [d.ref for d, _ in pull(other, REPO, ["cat2dog@2"], api=api).versions] == ["cat2dog@2"]
    assert "day2winter" not in other
    with pytest.raises(HubError, match="holds no direction horse2zebra"):
        pull(other, REPO, ["horse2zebra"], api=api)


def test_failures_are_one_line(library: Library, make: Make, hub: Hub, api: Any) -> None:
    library.save(make())
    with pytest.raises(HubError, match="no such repository or revision"):
        pull(library, "user/nothing", api=api)
    push(library, REPO, ["cat2dog"], api=api)
    with pytest.raises(HubError, match="no such repository or revision"):
        pull(library, REPO, revision="0" * 40, api=api)
    api.token = False
    with pytest.raises(HubError, match="not allowed; log in with `hf auth login` or set HF_TOKEN"):
        push(library, "user/new", ["cat2dog"], api=api)
    api.endpoint = "http://127.0.0.1:9"
    with pytest.raises(HubError, match="is the network there"):
        pull(library, REPO, api=api)


def test_a_hostile_repository_is_refused(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    content = library.find("cat2dog").path.read_bytes()
    good = f"cat2dog/{ENCODER}/v0001.safetensors"
    for path, inside in (
        (f"cat2dog/{ENCODER}/v0002.safetensors", content),
        (f"dog2cat/{ENCODER}/v0001.safetensors", content[:-1]),
    ):
        hub.commit("user/evil", {good: content, path: inside})
        with pytest.raises(BadFile, match="nothing was imported"):
            pull(other, "user/evil", api=api)
        hub.commits.clear()
    hub.commit("user/odd", {"../x.safetensors": content, "run.py": b"x", good: content})
    assert [d.ref for d, _ in pull(other, "user/odd", api=api).versions] == ["cat2dog@1"], (
        "only versions are read"
    )


def test_a_damaged_version_is_not_pushed(library: Library, make: Make, hub: Hub, api: Any) -> None:
    library.save(make())
    path = library.find("cat2dog").path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile):
        push(library, REPO, ["cat2dog"], api=api)
    assert hub.commits == {}


def test_a_name_that_is_not_there_is_an_error_beside_one_that_is(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    push(library, REPO, ["cat2dog"], api=api)
    with pytest.raises(HubError, match=r"holds no direction catt2dog, cat2dog@7$"):
        pull(other, REPO, ["cat2dog", "catt2dog", "cat2dog@7"], api=api)
    assert len(other) == 0


def test_what_was_pulled_may_be_pushed_back(
    library: Library, other: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make(record={"author": "ann"}))
    push(library, REPO, ["cat2dog"], api=api)
    pull(other, REPO, api=api)
    other.save(make(seed=1))
    pushed = push(other, REPO, ["cat2dog@1", "cat2dog@2"], api=api)
    assert pushed.present == [f"cat2dog/{ENCODER}/v0001.safetensors"]
    assert pushed.sent == [f"cat2dog/{ENCODER}/v0002.safetensors"]
    same_tensors = Library(other.path.parent / "third", search_path=())
    same_tensors.save(make(record={"author": "bob"}))
    with pytest.raises(HubError, match="a version never changes"):
        push(same_tensors, REPO, ["cat2dog"], api=api)


def test_a_damaged_version_on_the_hub_is_not_the_one_pushed(
    library: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    content = library.find("cat2dog").path.read_bytes()
    hub.commit(REPO, {f"cat2dog/{ENCODER}/v0001.safetensors": content[:-1]})
    with pytest.raises(HubError, match="a version never changes"):
        push(library, REPO, ["cat2dog"], api=api)


@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_file_half_written_in_the_cache_is_downloaded_again(
    library: Library, other: Library, make: Make, hub: Hub, api: Any, tmp_path: Path, kept: int
) -> None:
    library.save(make())
    push(library, REPO, ["cat2dog"], api=api)
    pull(Library(tmp_path / "first", search_path=()), REPO, api=api)
    (cached,) = (tmp_path / "hub-cache").rglob("v0001.safetensors")
    cached.write_bytes(cached.read_bytes()[:kept])
    assert [(d.ref, new) for d, new in pull(other, REPO, api=api).versions] == [("cat2dog@1", True)]


def test_a_repository_without_a_user_is_the_users_own(
    library: Library, make: Make, hub: Hub, api: Any
) -> None:
    library.save(make())
    for sent in (1, 0):
        pushed = push(library, "directions", ["cat2dog"], api=api)
        assert (pushed.repo, len(pushed.sent)) == ("user/directions", sent)


@pytest.mark.parametrize("repo", ["a/b/c", "https://huggingface.co/ann/directions", "", "ann/dir ections"])
def test_what_names_no_repository_is_refused_at_once(
    library: Library, make: Make, hub: Hub, api: Any, repo: str
) -> None:
    library.save(make())
    with pytest.raises(HubError, match="names no repository: expected USER/REPO"):
        push(library, repo, ["cat2dog"], api=api)
    with pytest.raises(HubError, match="names no repository: expected USER/REPO"):
        pull(library, repo, api=api)
    assert hub.posts == []
