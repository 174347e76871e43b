import torch

from hourglass_sep.losses import masked_l1, masked_l2


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(3, 2, 2, 5, 7, generator=generator)
    return masks, torch.rand(2, 1, 5, 7, generator=generator), torch.rand(2, 2, 5, 7, generator=generator)


def test_masked_l1_is_the_mean_over_batch_bins_and_frames_for_each_stack_and_source() -> None:
    masks, mixture, targets = inputs()
    losses = masked_l1(masks, mixture, targets)
    assert losses.shape == (3, 2)
    for k in range(3):
        for s in range(2):
            cells = [
                abs(float(masks[k, b, s, f, t]) * float(mixture[b, 0, f, t]) - float(targets[b, s, f, t]))
                for b in range(2)
                for f in range(5)
                for t in range(7)
            ]
            torch.testing.assert_close(float(losses[k, s]), sum(cells) / len(cells), rtol=1e-5, atol=0)


def test_masked_l2_squares_what_masked_l1_takes_the_size_of() -> None:
    masks, mixture, targets = inputs()
    difference = masks * mixture - targets
    torch.testing.assert_close(masked_l2(masks, mixture, targets), difference.pow(2).mean((1, 3, 4)))
    torch.testing.assert_close(masked_l1(masks, mixture, targets), difference.abs().mean((1, 3, 4)))


def test_the_losses_of_perfect_masks_are_zero_and_of_others_are_not() -> None:
    _, mixture, targets = inputs()
    perfect = (targets / mixture)[None]
    for loss in (masked_l1, masked_l2):
        assert float(loss(perfect, mixture, targets).max()) < 1e-7
        assert float(loss(perfect + 0.1, mixture, targets).min()) > 1e-4


def test_losses_are_float32_where_the_network_was_not() -> None:
    masks, mixture, targets = inputs()
    assert masked_l1(masks.bfloat16(), mixture, targets).dtype == torch.float32
