"""Networks of MONAI as data: SegResNet, SegResNetDS and UNet."""
