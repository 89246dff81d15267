package stripesim

import (
	"fmt"
	"math/big"
	"strconv"
)

// exact is the price of one.
func (p *price) exact() *big.Rat { return mustRat(p.decimal()) }

func (p *price) decimal() string {
	if p.Decimal != "" {
		return p.Decimal
	}
	return strconv.FormatInt(p.UnitAmount, 10)
}

// interval is for people.
func (p *price) interval() string {
	switch p.Months {
	case 1:
		return "month"
	case 12:
		return "year"
	}
	return fmt.Sprintf("%d months", p.Months)
}

// adHocPrice is what Stripe makes of an amount that names no price: one that is
// archived from the start, for this line alone.
func (s *Sim) adHocPrice(l *line) *price {
	prod := &product{ID: s.ids.next("prod_", 14), Name: firstOf(l.Description, "Invoice item"), Created: s.instant, Updated: s.instant, Archived: true}
	s.products.add(prod)
	p := &price{ID: s.ids.next("price_", 24), Product: prod, Created: s.instant, Archived: true}
	p.setUnit(mustRat(l.UnitAmount))
	s.prices.add(p)
	return p
}

func (p *price) setUnit(unit *big.Rat) {
	p.UnitAmount, p.Decimal = 0, decimal(unit)
	if unit.IsInt() {
		p.UnitAmount, p.Decimal = unit.Num().Int64(), ""
	}
}

func (s *Sim) priceParam(c *call, name string) *price {
	p, ok := s.prices.get(c.must(name))
	if !ok {
		c.fail(noSuch("price", c.str(name), name))
	}
	return p
}

// recurringParam reads a price that a subscription can be to.
func (s *Sim) recurringParam(c *call, name string) *price {
	p := s.priceParam(c, name)
	switch {
	case p == nil:
	case p.Archived:
		c.fail(invalid(name, "The price specified is inactive. This field only accepts active prices."))
	case p.Months == 0:
		c.fail(invalid(name, "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`."))
	}
	return p
}

func (p *price) kind() string {
	if p.Months == 0 {
		return "one_time"
	}
	return "recurring"
}

func renderPrice(p *price) object {
	var amount, recurring any
	if p.Decimal == "" {
		amount = p.UnitAmount
	}
	if p.Months > 0 {
		recurring = p.renderRecurring()
	}
	return object{
		"id": p.ID, "object": "price", "active": !p.Archived, "billing_scheme": "per_unit", "created": p.Created.Unix(),
		"currency": currency, "custom_unit_amount": nil, "livemode": false, "lookup_key": orNull(p.LookupKey),
		"metadata": renderMetadata(p.Metadata), "nickname": orNull(p.Nickname), "product": p.Product.ID,
		"recurring": recurring, "tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil,
		"type": p.kind(), "unit_amount": amount, "unit_amount_decimal": p.decimal(),
	}
}

func (p *price) renderRecurring() object {
	interval, count := "month", p.Months
	if p.Months%12 == 0 {
		interval, count = "year", p.Months/12
	}
	return object{
		"aggregate_usage": nil, "interval": interval, "interval_count": count, "meter": nil,
		"trial_period_days": nil, "usage_type": "licensed",
	}
}
