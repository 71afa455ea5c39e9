// Initialisation, by the same formulas and random draws as fluxion.nn.init.
#pragma once

#include "ops/functions.h"

namespace fluxion::nn::init {

void uniform_(const Tensor& t, double low = 0, double high = 1);
void normal_(const Tensor& t, double mean = 0, double std = 1);
/// U(-b, b) with b = sqrt(3) * gain / sqrt(fan_in), gain of leaky_relu with slope a (He et al. 2015).
void kaiming_uniform_(const Tensor& t, double a = 0);

}  // namespace fluxion::nn::init
