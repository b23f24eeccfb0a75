"""What Kubeflow takes: a pipeline, an experiment, a distributed training."""
