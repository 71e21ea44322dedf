import plotly.graph_objects as go
import pytest

from ntkscale.reporting import scrub


def test_every_moment_has_a_step_that_shows_its_frame():
    moments = [[go.Heatmap(z=[[k, 1], [1, k]])] for k in range(4)]
    figure = scrub(
        go.Figure(moments[2]), moments, ["0", ".5", "1", "2"], titles=list("abcd"), start=2
    )
    said = figure.to_plotly_json()
    (slider,), frames = said["layout"]["sliders"], said["frames"]
    assert [step["args"][0][0] for step in slider["steps"]] == [frame["name"] for frame in frames]
    assert [step["label"] for step in slider["steps"]] == ["0", ".5", "1", "2"]
    assert slider["active"] == 2 and said["layout"]["title"]["text"] == "c"
    assert [frame["layout"]["title"]["text"] for frame in frames] == list("abcd")
    assert [frame["data"][0]["z"][0][0] for frame in frames] == [0, 1, 2, 3]


@pytest.mark.parametrize(("frames", "labels", "titles"), [(0, 0, 0), (2, 1, 0), (2, 2, 1)], ids=str)
def test_frames_labels_and_titles_must_match(frames: int, labels: int, titles: int):
    with pytest.raises(ValueError, match="give one label a frame"):
        scrub(go.Figure(), [[go.Scatter()]] * frames, ["1"] * labels, titles=["a"] * titles)
