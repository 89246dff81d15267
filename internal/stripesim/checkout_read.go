package stripesim

import "math/big"

// readSold reads the one thing that is sold: a price, or in payment mode also an
// amount for this session alone.
func (s *Sim) readSold(c *call, cs *checkoutSession) {
	const data = "line_items[0][price_data]"
	if !c.has("line_items") {
		c.fail(missingParam("line_items"))
	}
	c.onlyOne("line_items")
	switch {
	case c.has(data) && cs.Mode == modeSubscription:
		c.fail(notSimulated(data, "price_data in subscription mode"))
	case c.has(data) && c.has("line_items[0][price]"):
		c.fail(invalid(data, "You may only specify one of these parameters: price, price_data."))
	case c.has(data):
		s.readPriceData(c, data)
	case cs.Mode == modeSubscription:
		cs.Price = s.recurringParam(c, "line_items[0][price]")
	default:
		cs.Price = s.oneTimeParam(c, "line_items[0][price]")
	}
	c.must("line_items[0][quantity]") // Stripe demands it for a licensed price
	cs.Quantity = c.integer("line_items[0][quantity]", 1, 1, 1_000_000)
}

func (s *Sim) oneTimeParam(c *call, name string) *price {
	p := s.priceParam(c, name)
	switch {
	case p == nil:
	case p.Archived:
		c.fail(invalid(name, "The price specified is inactive. This field only accepts active prices."))
	case p.Months > 0:
		c.fail(invalid(name, "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices."))
	}
	return p
}

func (s *Sim) readPriceData(c *call, data string) {
	c.must(data + "[currency]")
	c.dollarsOnly(data + "[currency]")
	c.must(data + "[unit_amount]")
	c.integer(data+"[unit_amount]", 0, 0, largest)
	if id := c.str(data + "[product]"); id != "" {
		if _, ok := s.products.get(id); !ok {
			c.fail(noSuch("product", id, data+"[product]"))
		}
		return
	}
	c.must(data + "[product_data][name]")
}

// sessionPrice is the price that Stripe makes of price_data.
func (s *Sim) sessionPrice(c *call) *price {
	const data = "line_items[0][price_data]"
	p := s.adHocPrice(&line{
		Description: c.str(data + "[product_data][name]"),
		UnitAmount:  decimal(new(big.Rat).SetInt64(c.integer(data+"[unit_amount]", 0, 0, largest))),
	})
	if prod, ok := s.products.get(c.str(data + "[product]")); ok {
		p.Product = prod
	}
	return p
}

// readMode reads what belongs to one mode and is refused in the other.
func (s *Sim) readMode(c *call, cs *checkoutSession) {
	other := "payment_intent_data"
	if cs.Mode == modePayment {
		other = "subscription_data"
	}
	if c.has(other) {
		c.fail(invalid(other, "You can not pass `"+other+"` in `"+cs.Mode+"` mode."))
	}
	cs.SubMetadata, cs.SubText = c.merge("subscription_data[metadata]", nil), c.str("subscription_data[description]")
	cs.IntentMetadata, cs.IntentText = c.merge("payment_intent_data[metadata]", nil), c.str("payment_intent_data[description]")
	cs.TrialDays = c.integer("subscription_data[trial_period_days]", 0, 1, longestTrial)
	cs.NoCardBehavior = c.oneOf("subscription_data[trial_settings][end_behavior][missing_payment_method]", "cancel", "create_invoice", "pause")
	cs.Creation = "always"
	creation := c.oneOf("customer_creation", "always", "if_required")
	switch {
	case cs.Mode == modePayment:
		cs.Creation = firstOf(creation, "if_required")
	case creation != "":
		c.fail(invalid("customer_creation", "`customer_creation` can only be used in `payment` mode."))
	}
}
