"""The network: registry, backbones, heads, losses, metrics, and `Net`, the LightningModule around them."""
