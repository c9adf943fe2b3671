"""The autoencoder: labels to latents and back."""
