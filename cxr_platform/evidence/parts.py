"""The parts of a study's evidence and what computes each."""

from cxr_platform.evidence.atlas import atlas
from cxr_platform.evidence.collect import Part
from cxr_platform.evidence.explanations import explanations
from cxr_platform.evidence.external import external
from cxr_platform.evidence.left_out import left_out
from cxr_platform.evidence.probes import metadata_probes, pixel_probes

PARTS = (
    Part(("metadata_probe", "metadata_source_probe"), metadata_probes),
    Part(("pixel_probes", "pixel_source_probes"), pixel_probes),
    Part(("left_out",), left_out),
    Part(("external",), external),
    Part(("lung_share", "heatmaps"), explanations),
    Part(("features", "atlas", "atlas_images"), atlas),
)
"""In this order what several need (features of whole images) is computed once."""
