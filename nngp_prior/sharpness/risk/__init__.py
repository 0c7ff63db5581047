"""Loss of a finite network on data, with its gradients."""
