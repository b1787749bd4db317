"""vos_umec: self-supervised video object segmentation by unified mask embedding and correspondence learning."""
