"""Prints the polynomial coefficients of loops/math_*.cpp (needs mpmath; a minute or two).

Each is a weighted minimax fit by Remez exchange on Chebyshev points, its coefficients rounded one by
one to the format, lowest power first, the rest refitted each time.
"""

import sys

from mpmath import (
    asin,
    atan,
    atanh,
    cos,
    erf,
    erfc,
    exp,
    expm1,
    log,
    log1p,
    mp,
    mpf,
    sin,
    sinh,
    sqrt,
    tanh,
)

mp.prec = 240
F32, F64 = 24, 53


def rounded(value, bits):
    mantissa, exponent = mp.frexp(value)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), exponent - bits)


class Fit:
    """Minimises max |polynomial(x) - f(x)| weight(x) over a grid."""

    def __init__(self, f, terms, domain, weight, grid=400):
        low, high = map(mpf, domain)
        angles = [mp.pi * (2 * i + 1) / (2 * grid) for i in range(grid)]
        points = [(low + high) / 2 - (high - low) / 2 * cos(a) for a in angles]
        self.values = [f(x) for x in points]
        self.weights = [weight(x) for x in points]
        self.powers = [[x**k for x in points] for k in range(terms)]

    def errors(self, coefficients):
        """Weighted error at each point; `coefficients` maps powers to values."""
        return [
            (sum(c * self.powers[k][i] for k, c in coefficients.items()) - value) * weight
            for i, (value, weight) in enumerate(zip(self.values, self.weights))
        ]

    def solve(self, fixed):
        """The best values of the powers that are not fixed."""
        free = [k for k in range(len(self.powers)) if k not in fixed]
        n, last = len(free), len(self.values) - 1
        reference = [round(last * float(1 - cos(mp.pi * k / n)) / 2) for k in range(n + 1)]
        target = self.errors(fixed)
        best = (mp.inf, None)
        for _ in range(40):
            a, b = mp.matrix(n + 1, n + 1), mp.matrix(n + 1, 1)
            for row, i in enumerate(reference):
                for column, k in enumerate(free):
                    a[row, column] = self.powers[k][i] * self.weights[i]
                a[row, n] = (-1) ** row
                b[row] = -target[i]
            solution = mp.lu_solve(a, b)
            candidate = dict(zip(free, solution))
            errors = self.errors({**fixed, **candidate})
            worst = max(map(abs, errors))
            best = min(best, (worst, candidate), key=lambda pair: pair[0])
            peaks = alternating_peaks(errors, n + 1)
            if worst <= abs(solution[n]) * mpf("1.002") or peaks is None:
                break
            reference = peaks
        return best[1]

    def run(self, bits, fixed=()):
        fixed = dict(fixed)
        ideal = self.solve(fixed)
        at_once = {**fixed, **{k: rounded(c, bits) for k, c in ideal.items()}}
        for k in range(len(self.powers)):
            if k not in fixed:
                fixed[k] = rounded(self.solve(fixed)[k], bits)
        return min(fixed, at_once, key=lambda c: max(map(abs, self.errors(c))))


def alternating_peaks(errors, count):
    peaks = []
    for i, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks if len(peaks) == count else None


def show(name, f, terms, domain, weight, bits, fixed=()):
    if len(sys.argv) > 1 and sys.argv[1] not in name:
        return
    fit = Fit(f, terms, domain, weight)
    c = fit.run(bits, fixed)
    error = float(mp.log(max(map(abs, fit.errors(c))), 2))
    digits = ", ".join(float(c[k]).hex() for k in range(terms))
    print(f"{name}: relative error 2^{error:.1f}\n  {digits}", flush=True)


def odd(name, f, top, terms, bits):
    """f(x) = x + x^3 P(x^2)."""

    def tail(z):
        return (f(sqrt(z)) / sqrt(z) - 1) / z

    show(name, tail, terms, (2**-20, mpf(top) ** 2), lambda z: z * sqrt(z) / f(sqrt(z)), bits)


def erfcx(k):
    """(1 + 2 x) e^(x^2) erfc(x) as a function of q = (x - k) / (x + k)."""

    def g(q):
        x = k * (1 + q) / (1 - q)
        return (1 + 2 * x) * exp(x * x) * erfc(x)

    return g


HALF_LN2, HALF = mpf("0.347"), mpf("0.5001")
SPLIT = mpf("0.8135")
LOG_DOMAIN = (sqrt(mpf(1) / 2) - 1 - mpf(2) ** -20, sqrt(mpf(2)) - 1 + mpf(2) ** -20)
S_SQUARE = ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * mpf("1.0001")


def exp_tail(r):
    return (expm1(r) - r) / r**2 if abs(r) > 2**-60 else mpf(1) / 2


def exp2_tail(r):
    return (mpf(2) ** r - 1) / r if r else log(2)


def log_tail(f):
    return (log1p(f) - f) / f**2 if abs(f) > 2**-60 else -mpf(1) / 2


def log_weight(f):
    return abs(f**2 / log1p(f)) if f else mpf(0)


def main():
    for bits, terms, wide in ((F32, 5, 6), (F64, 10, 12)):
        domain, weight = (-HALF_LN2, HALF_LN2), lambda r: r**2 / exp(r)
        show(f"kExp {bits}, from r^2 on", exp_tail, terms, domain, weight, bits)
        weight = lambda r: abs(r**2 / expm1(r)) if r else mpf(0)  # noqa: E731
        show(f"kExpm1 {bits}", exp_tail, wide, (-HALF, HALF), weight, bits)
    for bits, terms in ((F32, 6), (F64, 11)):
        weight = lambda r: abs(r) / mpf(2) ** r  # noqa: E731
        show(f"kExp2 {bits}, from r on", exp2_tail, terms, (-HALF, HALF), weight, bits)
    show("kExp2Middle, from r on", exp2_tail, 7, (-HALF, HALF), weight, F64)

    odd("kTanh 24", tanh, "0.625", 5, F32)
    odd("kTanh 53", tanh, "0.625", 12, F64)
    odd("kSinh 24", sinh, 1, 4, F32)
    odd("kSinh 53", sinh, 1, 8, F64)
    for bits, terms in ((F32, 6), (F64, 12)):
        domain, weight = (2**-30, SPLIT**2), lambda z: sqrt(z) / erf(sqrt(z))
        show(f"kErf {bits}", lambda z: erf(sqrt(z)) / sqrt(z) - 1, terms, domain, weight, bits)
    for bits, terms, top in ((F32, 7, "3.93"), (F64, 20, "5.95")):
        weight = lambda x: erfc(x) * log(2) / erf(x)  # noqa: E731
        show(f"kErfTail {bits}", lambda x: log(erfc(x), 2), terms, (SPLIT, mpf(top)), weight, bits)
    for bits, terms, k, top in ((F32, 10, 2, "10.1"), (F64, 22, 4, "27.3")):
        g, edge = erfcx(mpf(k)), (mpf(top) - k) / (mpf(top) + k)
        show(f"kErfc {bits}", g, terms, (-1, edge), lambda q, g=g: 1 / g(q), bits)

    show("kLog 24", log_tail, 9, LOG_DOMAIN, log_weight, F32)
    show("kLogMiddle", log_tail, 13, LOG_DOMAIN, log_weight, F64, {0: -mpf(1) / 2})
    domain = (mpf(2) ** -30, S_SQUARE)

    def log_quotient(z):
        return 2 * atanh(sqrt(z)) / sqrt(z)

    weight = lambda z: z / log_quotient(z)  # noqa: E731
    show("kLog 53", lambda z: (log_quotient(z) - 2) / z, 7, domain, weight, F64)
    weight = lambda z: 2 * z**2 / log_quotient(z)  # noqa: E731
    tail = lambda z: (log_quotient(z) / 2 - 1 - z / 3) / z**2  # noqa: E731
    show("kAtanhTail", tail, 9, domain, weight, F64)

    for bits, terms in ((F32, 3), (F64, 6)):
        odd(f"kSin {bits}", sin, "0.8", terms, bits)
        domain, weight = (2**-10, mpf("0.64")), lambda z: z * z / cos(sqrt(z))
        show(
            f"kCos {bits}", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, terms, domain, weight, bits
        )
    odd("kAtan 24", atan, 1, 9, F32)
    odd("kAtan 53", atan, 1, 21, F64)
    odd("kAsin 24", asin, "0.50005", 6, F32)
    odd("kAsin 53", asin, "0.50005", 13, F64)


if __name__ == "__main__":
    main()
