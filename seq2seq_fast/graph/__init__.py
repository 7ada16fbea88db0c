"""What a model computes, as ops over numbered buffers: recorded once, run by any backend.

Layers are recorded by calling them with a Recorder; a backend runs the graph, by the schedule that
suits it and the number of rows.
"""
