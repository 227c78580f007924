import numpy as np
import pytest
import torch
from conftest import (
    IMAGE,
    MINI,
    SYMBOL,
    VECTOR,
    array,
    np_blocks,
    np_conv,
    np_head,
    np_linear,
    np_nln,
    np_sigmoid,
    np_silu_norm,
    np_symlog,
    shake,
)
from gymnasium.spaces import Box, MultiBinary

from wmlib.encoder import (
    ClassDecoder,
    ClassEncoder,
    Conv,
    ImageDecoder,
    ImageEncoder,
    VectorDecoder,
    VectorEncoder,
    stage_channels,
)
from wmlib.errors import BadInput
from wmlib.nets import MLP, NLN, BlockLinear, Head, NormSiLU, init_weight, linear
from wmlib.spaces import obs_kind

FLAT = MINI.stoch * MINI.classes


def close(found, expected, tolerance=2e-5):
    np.testing.assert_allclose(array(found), expected, rtol=tolerance, atol=tolerance)


def np_decoder_start(decoder, h, z):
    """The two parts of the picture the decoder starts from, of h and of z, each (N, 4, 4, C)."""
    parts = np_blocks(np.split(h, MINI.blocks, -1), decoder.from_h)
    tiles = [part.reshape(len(h), 4, 4, -1) for part in parts]
    from_z = np_linear(np_nln(z, decoder.from_z[0]), decoder.from_z[1])
    return np.concatenate(tiles, -1), from_z.reshape(len(h), 4, 4, -1)


# ---------------------------------------------------------------- layers


def test_nln_is_silu_of_rmsnorm_of_a_linear_map():
    layer, x = shake(NLN(7, 5)), torch.randn(3, 4, 7)
    close(layer(x), np_nln(array(x), layer))


def test_rmsnorm_adds_epsilon_inside_the_root_and_has_no_bias():
    norm = NormSiLU(4)
    assert [name for name, _ in norm.named_parameters()] == ["gain"]
    x = torch.full((1, 4), 1e-2)  # mean square equals eps: normalised to 1/sqrt(2)
    close(norm(x), np.full((1, 4), 2**-0.5 * np_sigmoid(2**-0.5)))


def test_rmsnorm_works_in_float32_and_returns_the_input_type():
    norm, x = NormSiLU(512), 300 * torch.randn(2, 512).bfloat16()
    y = norm(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, norm(x.float()).bfloat16())


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 5, 7)], ids=str)
def test_the_gradient_of_norm_and_silu_is_that_of_the_formula(shape, size):
    norm = shake(NormSiLU(7))
    x, weight = (size * torch.randn(shape)).requires_grad_(), torch.randn(shape)
    found = torch.autograd.grad((weight * norm(x)).sum(), (x, norm.gain))
    x64, gain64 = (v.detach().double().requires_grad_() for v in (x, norm.gain))
    y = x64 / (x64.square().mean(-1, keepdim=True) + 1e-4).sqrt() * gain64
    expected = torch.autograd.grad((weight * y * y.sigmoid()).sum(), (x64, gain64))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-4, atol=1e-5)


def test_blocklinear_is_a_block_diagonal_matrix():
    layer, x = shake(BlockLinear(12, 8, 4)), torch.randn(5, 4, 3)
    expected = np_blocks([array(x[:, k]) for k in range(4)], layer)
    close(layer(x), np.stack(expected, 1))


def test_shared_inputs_are_as_good_as_a_copy_for_every_block():
    layer = shake(BlockLinear(4 * 5, 8, 4))
    x = torch.randn(6, 4, 3, requires_grad=True)
    shared = torch.randn(6, 2, requires_grad=True)
    copies = torch.cat([x, shared.unsqueeze(1).expand(6, 4, 2)], -1)
    torch.testing.assert_close(layer(x, shared), layer(copies))
    inputs, weight = (x, shared, layer.weight), torch.randn(6, 4, 2)
    for one, other in zip(
        torch.autograd.grad((weight * layer(x, shared)).sum(), inputs),
        torch.autograd.grad((weight * layer(copies)).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_blocks_do_not_see_each_other():
    layer, x = BlockLinear(12, 8, 4), torch.randn(1, 4, 3, requires_grad=True)
    layer(x)[0, 1].sum().backward()
    assert x.grad.abs().sum(-1).gt(0).tolist() == [[False, True, False, False]]


def test_weights_have_variance_one_over_fan_in_and_are_cut_at_two_sigma():
    weight = torch.empty(400, 300)
    init_weight(weight, 300)
    assert weight.std().item() == pytest.approx(300**-0.5, rel=0.01)
    limit = 2 * 1.1368 / 300**0.5
    assert 0.99 * limit < weight.abs().max().item() <= limit * (1 + 1e-6)


def test_blocklinear_counts_all_inputs_as_fan_in():
    assert BlockLinear(800, 400, 8).weight.std().item() == pytest.approx(800**-0.5, rel=0.02)


def test_convolution_counts_every_tap_as_fan_in_and_has_a_zero_bias():
    conv = Conv(24, 48)
    assert conv.weight.std().item() == pytest.approx((25 * 24) ** -0.5, rel=0.02)
    assert not conv.bias.any()


def test_outscale_multiplies_the_output_layer_only():
    plain = linear(200, 200).weight.std().item()
    assert linear(200, 200, 0.01).weight.std().item() == pytest.approx(plain / 100, rel=0.03)
    head = Head(6, 8, 2, 4, outscale=0.0)
    assert not head.out.weight.any() and not head.out.bias.any()
    assert all(layer.linear.weight.any() for layer in head.mlp)


def test_head_is_layers_of_nln_and_a_plain_linear_map():
    head, x = shake(Head(6, 8, 3, 4)), torch.randn(5, 6)
    assert len(head.mlp) == 3
    close(head(x), np_head(array(x), head))
    assert len(MLP(6, 8, 1)) == 1


def test_convolution_of_kernel_5_keeps_the_size():
    conv, x = shake(Conv(3, 4)), torch.randn(2, 6, 6, 3)
    close(conv(x), np_conv(array(x), conv))


def test_convolution_of_stride_2_halves_the_size():
    conv, x = shake(Conv(3, 4, "down")), torch.randn(2, 8, 8, 3)
    close(conv(x), np_conv(array(x), conv, stride=2))


def test_the_up_convolution_is_the_transpose_of_the_down_convolution():
    down, up = Conv(3, 4, "down"), Conv(4, 3, "up")
    with torch.no_grad():
        up.weight.copy_(down.weight)
    x, y = torch.randn(2, 8, 8, 3), torch.randn(2, 4, 4, 4)
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum(), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- encoders


def test_vector_encoder_is_three_nln_of_the_symlog():
    encoder, x = shake(VectorEncoder(VECTOR, MINI)), 100 * torch.randn(2, 3, 6)
    expected = np_symlog(array(x))
    assert len(encoder.mlp) == 3
    for layer in encoder.mlp:
        expected = np_nln(expected, layer)
    close(encoder(x), expected)


def test_discrete_observations_enter_as_one_hot_without_symlog():
    encoder = shake(ClassEncoder(SYMBOL, MINI))
    expected = np.eye(5)[[[0, 4], [2, 1]]]
    for layer in encoder.mlp:
        expected = np_nln(expected, layer)
    close(encoder(torch.tensor([[0, 4], [2, 1]])), expected)


def test_pooled_image_encoder():
    encoder = shake(ImageEncoder(IMAGE, MINI), 0.1)
    image = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    x = array(image).reshape(6, 16, 16, 3) / 255 - 0.5
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = np_conv(x, conv)
        side = x.shape[1] // 2
        x = x.reshape(6, side, 2, side, 2, -1).max((2, 4))
        x = np_silu_norm(x, norm)
    assert x.shape == (6, 4, 4, 12)
    close(encoder(image), x.reshape(2, 3, -1))


def test_strided_image_encoder():
    encoder = shake(ImageEncoder(IMAGE, MINI.replace(coder="strided")), 0.1)
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    x = array(image) / 255 - 0.5
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = np_silu_norm(np_conv(x, conv, stride=2), norm)
    close(encoder(image), x.reshape(2, -1))


def test_channels_are_depth_times_2_3_4_4_down_to_4_by_4():
    sides = {side: stage_channels((side, side, 3), 8) for side in (8, 16, 32, 64)}
    assert sides == {8: [16], 16: [16, 24], 32: [16, 24, 32], 64: [16, 24, 32, 32]}


@pytest.mark.parametrize("shape", [(4, 4, 1), (50, 50, 3), (15, 16, 1), (512, 512, 3)])
def test_other_image_sizes_are_refused(shape):
    with pytest.raises(BadInput, match=f"{shape[0]}x{shape[1]}"):
        stage_channels(shape, 8)


@pytest.mark.parametrize(
    "space", [Box(0, 1, (16, 16, 3), np.float32), Box(0, 1, (4, 4), np.float32), MultiBinary(3)]
)
def test_other_observation_spaces_are_refused(space):
    with pytest.raises(BadInput, match="cannot be built for observations that are a"):
        obs_kind(space)


# ---------------------------------------------------------------- decoders


def test_pooled_image_decoder():
    decoder = shake(ImageDecoder(IMAGE, MINI), 0.1)
    h, z = torch.randn(3, 32), torch.randn(3, FLAT)
    x = sum(np_decoder_start(decoder, array(h), array(z)))
    x = np_silu_norm(x, decoder.norms[0])
    for i, conv in enumerate(decoder.convs):
        if i:
            x = np_silu_norm(x, decoder.norms[i])
        x = np_conv(x.repeat(2, 1).repeat(2, 2), conv)
    assert x.shape == (3, 16, 16, 3)
    close(decoder(h, z), x, 1e-4)
    close(decoder.mean(decoder(h, z)), np_sigmoid(x), 1e-4)


@pytest.mark.parametrize("right", [True, False], ids=["tiles", "plain reshape"])
def test_blocks_of_h_are_tiles_side_by_side_in_the_channels(right):
    decoder = shake(ImageDecoder(IMAGE, MINI), 0.1)
    seen = []
    decoder.norms[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    h, z = torch.randn(3, 32), torch.randn(3, FLAT)
    decoder(h, z)
    tiles, from_z = np_decoder_start(decoder, array(h), array(z))
    if not right:
        parts = np_blocks(np.split(array(h), MINI.blocks, -1), decoder.from_h)
        tiles = np.concatenate(parts, -1).reshape(3, 4, 4, -1)
    error = np.abs(array(seen[0]) - tiles - from_z).max()
    assert error < 1e-5 if right else error > 0.5


def test_decoder_channels_mirror_the_encoder():
    space = Box(0, 255, (64, 64, 3), np.uint8)
    decoder = ImageDecoder(space, MINI)
    shapes = [(conv.weight.shape[1], conv.weight.shape[0]) for conv in decoder.convs]
    assert shapes == [(16, 16), (16, 12), (12, 8), (8, 3)]
    assert [len(norm.gain) for norm in decoder.norms] == [16, 16, 12, 8]
    assert decoder.from_z[0].linear.out_features == 2 * MINI.units


def test_a_depth_that_the_blocks_do_not_divide_is_refused():
    with pytest.raises(BadInput, match="depth is 3"):
        ImageDecoder(IMAGE, MINI.replace(depth=3))


@pytest.mark.parametrize("coder", ["pooled", "strided"])
def test_image_loss_is_the_plain_sum_of_squared_errors_of_the_squashed_pixels(coder):
    decoder = ImageDecoder(IMAGE, MINI.replace(coder=coder))
    image = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8)
    drawn = decoder(torch.randn(2, 5, 32), torch.randn(2, 5, FLAT))
    expected = ((np_sigmoid(array(drawn)) - array(image) / 255) ** 2).sum((2, 3, 4))
    assert drawn.shape == (2, 5, 16, 16, 3)
    close(decoder.loss(drawn, image), expected)


def test_bernoulli_image_loss_counts_nats():
    decoder = ImageDecoder(IMAGE, MINI.replace(likelihood="bernoulli"))
    image = torch.randint(0, 2, (2, 16, 16, 3), dtype=torch.uint8) * 255
    drawn = torch.randn(2, 16, 16, 3)
    p, x = np_sigmoid(array(drawn)), array(image) / 255
    close(decoder.loss(drawn, image), -np.log(p * x + (1 - p) * (1 - x)).sum((1, 2, 3)))


def test_vector_decoder_reads_z_then_h_and_predicts_the_symlog():
    decoder = shake(VectorDecoder(VECTOR, MINI))
    h, z, obs = torch.randn(3, 32), torch.randn(3, FLAT), 100 * torch.randn(3, 6)
    expected = np_head(np.concatenate([array(z), array(h)], -1), decoder)
    assert len(decoder.mlp) == 3
    close(decoder(h, z), expected)
    close(decoder.loss(decoder(h, z), obs), ((expected - np_symlog(array(obs))) ** 2).sum(-1), 1e-4)
    exact = torch.sign(obs) * torch.log1p(obs.abs())
    torch.testing.assert_close(decoder.mean(exact), obs, rtol=1e-4, atol=1e-5)


def test_discrete_decoder_is_a_categorical():
    decoder = ClassDecoder(SYMBOL, MINI)
    prediction, obs = torch.randn(2, 3, 5), torch.randint(0, 5, (2, 3))
    expected = -torch.distributions.Categorical(logits=prediction).log_prob(obs)
    torch.testing.assert_close(decoder.loss(prediction, obs), expected)
    torch.testing.assert_close(decoder.mean(prediction).sum(-1), torch.ones(2, 3))
