"""VAREdit: images edited by an instruction, by an Infinity that also sees the source image (arXiv
2508.15772)."""
