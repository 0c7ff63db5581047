"""Loss of a finite network on data, and its gradients."""
