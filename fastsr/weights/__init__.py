"""Trained networks that come with fastsr: NAME_xS.fsr, the weights in 16 bits, and NAME_xS.json, the model card. `fastsr.shipped` finds them."""
