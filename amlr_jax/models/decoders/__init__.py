"""Decoders: from the features of an encoder to depth in metres, or to disparity.

All take the features of their encoder, fine to coarse, and the size of the image:
`decoder(features, size=(height, width), train=...)`.
"""
