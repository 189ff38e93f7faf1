"""What a person sees: the application's screens. Imports Textual; never torch, numba, h5py or scikit-image."""
