package stripesim

import (
	"math/big"
	"regexp"
	"strings"
	"time"
)

// places is how many decimal places of a cent Stripe takes.
const places = 12

var decimalRE = regexp.MustCompile(`^-?\d{1,14}(\.\d{1,12})?$`)

// decimal reads an amount with fractions of a cent.
func (p *params) decimal(name string) *big.Rat {
	v := p.values[name]
	if !decimalRE.MatchString(v) {
		p.fail(invalid(name, "Invalid decimal: "+v+"; must contain at maximum 12 decimal places."))
		return new(big.Rat)
	}
	return mustRat(v)
}

// mustRat reads a decimal that was checked when it came in.
func mustRat(v string) *big.Rat {
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		panic("stripesim: not a decimal: " + v)
	}
	return r
}

// decimal writes an amount without trailing zeros.
func decimal(r *big.Rat) string {
	v := r.FloatString(places)
	return strings.TrimSuffix(strings.TrimRight(v, "0"), ".")
}

// instant reads a moment; an absent one is zero.
func (p *params) instant(name string) time.Time {
	const far = 1 << 40
	if !p.has(name) {
		return time.Time{}
	}
	return time.Unix(p.integer(name, 0, 0, far), 0).UTC()
}

// dollarsOnly refuses another currency than that of the simulator.
func (p *params) dollarsOnly(name string) {
	if v := p.values[name]; v != "" && !strings.EqualFold(v, currency) {
		p.fail(notSimulated(name, "the currency "+v))
	}
}
