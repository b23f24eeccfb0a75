"""What people export with Merlin Systems today, exported by Mews: an Ensemble, or a workflow and a model."""
