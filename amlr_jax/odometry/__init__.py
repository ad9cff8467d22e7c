"""How well a pose network tells where a camera has driven, on the host in float64.

`snippets` is the error of monodepth2 over five frames, `align` and `trajectory` measure
a whole drive, `measure` collects them; `drives` finds images with true poses, `steps`
predicts with a pose network, `run` does all of it for a command and for a run.
"""
