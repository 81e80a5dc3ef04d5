"""Small pictures: a VAE and a GAN that draw them, and a classifier that names them."""

from genloom_image.classifier import ImageClassifier
from genloom_image.gan import ImageGAN
from genloom_image.vae import ImageVAE

__all__ = ["ImageClassifier", "ImageGAN", "ImageVAE"]
