"""One training step of the organisers' network, its gradients written out.

At batches of eight, automatic differentiation and the optimiser's bookkeeping take longer than the
arithmetic. Here the gradients of this one network are spelled out in about fifty tensor operations. The
heads are computed side by side as one batch of matrices, padded to equal sizes, and the weights of the trunk
and of each head lie in one flat array, so that one fused Adam call updates them. `exvo.networks.mlp` is
what it must agree with: tests compare every gradient and a run of steps with ``backward()`` and
``torch.optim.Adam``.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from exvo.networks.mlp import NEGATIVE_SLOPE, MultitaskMlp

_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.default
_layer_norm_backward = torch.ops.aten.native_layer_norm_backward.default


def _place(parameter: nn.Parameter, weights: Tensor, gradients: Tensor) -> None:
    """Make a parameter and its ``grad`` views of the given tensors."""
    weights.copy_(parameter.data)
    parameter.data, parameter.grad = weights, gradients


class OrganisersStep:
    """Trains a network in place, a batch at a time.

    Parameters
    ----------
    network : MultitaskMlp
        Its parameters become views of this object's arrays; evaluate it between steps as usual.
    learning_rate, weight_decay : float
        Of Adam; the decay is the L2 penalty of Adam, not of AdamW, and applies to every parameter.
    product_type : torch.dtype, optional
        Type of the two products with the features (mixed precision). The features must come in it; weights,
        gradients and all else stay float32.

    Notes
    -----
    A task without a label in the batch is left out of the update altogether: its head, its ``s`` and their
    Adam moments stay as they are, as PyTorch does where a gradient is None. Otherwise momentum and weight
    decay would go on moving the head of a task that is labelled in one batch of fifty.
    """

    def __init__(
        self,
        network: MultitaskMlp,
        *,
        learning_rate: float,
        weight_decay: float,
        product_type: torch.dtype = torch.float32,
    ) -> None:
        self.tasks = network.tasks
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.product_type = product_type
        self._device = next(network.parameters()).device
        self._place_trunk(network)
        self._place_heads(network)
        task_weights = [1.0 if task != "country" else 0.5 for task in self.tasks]
        # d(error^2) is 2 error and d(cross-entropy) is error; the 2 meets the 1/2 before exp(-s).
        self._slope = torch.tensor(task_weights, device=self._device)

    def _place_trunk(self, network: MultitaskMlp) -> None:
        """Lay the trunk out flat, matrices as (n_in, n_out).

        That way the gradient of the first layer, the largest product, takes a third less time.
        """
        parameters = list(network.trunk.parameters())
        trunk = torch.zeros(4, sum(p.numel() for p in parameters), device=self._device)
        # of each block: weights, gradients, Adam's two moments and its number of steps
        self._blocks = {"trunk": (*trunk.unbind(), torch.zeros((), device=self._device))}
        start = 0
        for parameter in parameters:
            part, shape = slice(start, start + parameter.numel()), parameter.shape[::-1]
            _place(parameter, *(a[part].view(shape).t() for a in trunk[:2]))
            start = part.stop
        # of each layer: weight, bias, gain, shift, then their gradients
        self._layers = [
            [p.data.t() for p in parameters[i : i + 4]] + [p.grad.t() for p in parameters[i : i + 4]]
            for i in range(0, len(parameters), 4)
        ]

    def _place_heads(self, network: MultitaskMlp) -> None:
        """Lay each head out as one row, ``s`` last; narrow outputs are padded by weights that stay 0."""
        head_width, n_in = next(iter(network.heads.values()))[0].weight.shape
        self._n_outputs = {task: head[2].out_features for task, head in network.heads.items()}
        self._width = max(self._n_outputs.values())
        shapes = [(n_in, head_width), (1, head_width), (head_width, self._width), (1, self._width), (1, 1)]
        sizes = [n_rows * n_columns for n_rows, n_columns in shapes]
        heads = torch.zeros(4, len(self.tasks), sum(sizes), device=self._device)

        def views(flat: Tensor) -> list[Tensor]:
            parts = zip(flat.split(sizes, dim=1), shapes, strict=True)
            return [part.unflatten(1, shape) for part, shape in parts]

        self._weights, self._gradients = views(heads[0]), views(heads[1])
        for i, task in enumerate(self.tasks):
            self._blocks[task] = (*heads[:, i].unbind(), torch.zeros((), device=self._device))
            first, last = network.heads[task][0], network.heads[task][2]
            n_outputs = self._n_outputs[task]
            pairs = [(w[i], g[i]) for w, g in zip(self._weights, self._gradients, strict=True)]
            _place(first.weight, *(a.t() for a in pairs[0]))
            _place(first.bias, *(a[0] for a in pairs[1]))
            _place(last.weight, *(a[:, :n_outputs].t() for a in pairs[2]))
            _place(last.bias, *(a[0, :n_outputs] for a in pairs[3]))
            _place(network.log_variances[task], *(a[0] for a in pairs[4]))

    def stack(self, targets: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the targets of any number of clips as a step takes them.

        Parameters
        ----------
        targets : mapping of task to (values, weights)
            As in `masked_losses`, of every task of the network.

        Returns
        -------
        values, weights : Tensor [shape=(n_tasks, n, width)]
            Padded by zeros. Take the batch's clips from the middle axis.
        """
        n = len(targets[self.tasks[0]][0])
        values, weights = torch.zeros(2, len(self.tasks), n, self._width, device=self._device)
        for i, task in enumerate(self.tasks):
            for stacked, part in zip((values, weights), targets[task], strict=True):
                stacked[i, :, : self._n_outputs[task]] = part
        return values, weights

    @torch.no_grad()
    def __call__(self, features: Tensor, values: Tensor, weights: Tensor, present: Collection[str]) -> Tensor:
        """Take one step and return the losses before it.

        Parameters
        ----------
        features : Tensor [shape=(batch, n_features), dtype=product_type]
            Standardised.
        values, weights : Tensor [shape=(n_tasks, batch, width)]
            From `stack`.
        present : collection of str
            The tasks that have a label in this batch, at least one.

        Returns
        -------
        Tensor [shape=(n_tasks,)]
            0 for a task without a label.
        """
        losses = self.differentiate(features, values, weights)
        blocks = [self._blocks["trunk"], *(self._blocks[task] for task in self.tasks if task in present)]
        weights, gradients, exp_avg, exp_avg_sq, n_steps = map(list, zip(*blocks, strict=True))
        adam(
            weights,
            gradients,
            exp_avg,
            exp_avg_sq,
            [],
            n_steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        return losses

    @torch.no_grad()
    def differentiate(self, features: Tensor, values: Tensor, weights: Tensor) -> Tensor:
        """Write the gradient of the combined loss into every ``grad``.

        Parameters and return value are those of a step.
        """
        shared, saved = features, []
        for weight, bias, gain, shift, *_ in self._layers:
            product = self._linear(shared, weight, bias)
            normed, mean, rstd = torch.native_layer_norm(product, gain.shape, gain, shift, 1e-5)
            saved.append((shared, product, mean, rstd, normed))
            shared = nn.functional.leaky_relu(normed, NEGATIVE_SLOPE)
        losses, shared_grad = self._differentiate_heads(shared, values, weights)
        for depth in reversed(range(len(saved))):
            entered, product, mean, rstd, normed = saved[depth]
            weight, _, gain, shift, weight_grad, bias_grad, gain_grad, shift_grad = self._layers[depth]
            grad = _leaky_relu_backward(shared_grad, normed, NEGATIVE_SLOPE, False)
            grad, gain_gradient, shift_gradient = _layer_norm_backward(
                grad, product, gain.shape, mean, rstd, gain, shift, [True, True, True]
            )
            gain_grad.copy_(gain_gradient)
            shift_grad.copy_(shift_gradient)
            torch.sum(grad, 0, out=bias_grad)
            if depth:
                torch.mm(entered.t(), grad, out=weight_grad)
                shared_grad = torch.mm(grad, weight.t())
            else:
                self._first_weight_gradient(entered, grad, weight_grad)
        return losses

    def _linear(self, entering: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return ``entering @ weight + bias`` in float32; the product in the type of ``entering``."""
        if entering.dtype == weight.dtype:
            return torch.addmm(bias, entering, weight)
        return torch.mm(entering, weight.to(entering.dtype)).float().add_(bias)

    def _first_weight_gradient(self, features: Tensor, grad: Tensor, out: Tensor) -> None:
        """Write ``features.T @ grad``; in half precision from a gradient scaled to 1, lest it underflow."""
        if features.dtype == out.dtype:
            torch.mm(features.t(), grad, out=out)
            return
        scale = grad.abs().amax().clamp_(min=1e-30)
        torch.mul(torch.mm(features.t(), (grad / scale).to(features.dtype)).float(), scale, out=out)

    def _differentiate_heads(self, shared: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiate the heads; return the losses and the gradient with respect to the trunk's output."""
        first, first_bias, last, last_bias, s = self._weights
        first_grad, first_bias_grad, last_grad, last_bias_grad, s_grad = self._gradients
        shared = shared.expand(len(self.tasks), -1, -1)
        before = torch.baddbmm(first_bias, shared, first)
        hidden = nn.functional.leaky_relu(before, NEGATIVE_SLOPE)
        output = torch.baddbmm(last_bias, hidden, last)
        losses, grad = self._differentiate_losses(output, values, weights)
        precision = torch.exp(-s[:, 0, 0])  # the loss is L precision / 2 + s / 2
        torch.sub(0.5, precision * losses, alpha=0.5, out=s_grad[:, 0, 0])
        grad.mul_((precision * self._slope)[:, None, None])
        last_grad.copy_(torch.bmm(hidden.mT, grad))
        torch.sum(grad, 1, keepdim=True, out=last_bias_grad)
        grad = _leaky_relu_backward(torch.bmm(grad, last.mT), before, NEGATIVE_SLOPE, False)
        first_grad.copy_(torch.bmm(shared.mT, grad))
        torch.sum(grad, 1, keepdim=True, out=first_bias_grad)
        return losses, torch.bmm(grad, first.mT).sum(0)

    def _differentiate_losses(self, output: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each task and its gradient with respect to the outputs, but for ``_slope``."""
        emotion = country = None
        if "emotion" in self.tasks:
            emotion = output[self.tasks.index("emotion"), :, : self._n_outputs["emotion"]].sigmoid_()
        if "country" in self.tasks:
            i, n_countries = self.tasks.index("country"), self._n_outputs["country"]
            country = output[i, :, :n_countries]
            log_probability = torch.log_softmax(country, 1)
            torch.exp(log_probability, out=country)
        error = output - values
        grad = weights * error
        losses = (grad * error).sum((1, 2))
        if emotion is not None:
            emotion_grad = grad[self.tasks.index("emotion"), :, : self._n_outputs["emotion"]]
            emotion_grad.mul_(emotion - emotion * emotion)
        if country is not None:
            target = weights[i, :, :n_countries] * values[i, :, :n_countries]
            losses[i] = -(target * log_probability).sum()
        return losses, grad
