package stripesim

import (
	"maps"
	"slices"
)

func (s *Sim) createProduct(c *call) (object, *apiError) {
	p := &product{ID: c.str("id"), Created: s.instant}
	if _, taken := s.products.get(p.ID); taken {
		c.fail(invalidCode("resource_already_exists", "id", "Product already exists."))
	}
	p.read(c)
	if kind := c.oneOf("type", "good", "service"); kind == "good" {
		c.fail(notSimulated("type", "products of type good"))
	}
	if c.err != nil {
		return nil, c.err
	}
	p.ID = firstOf(p.ID, s.ids.next("prod_", 14))
	p.Updated = s.instant
	s.products.add(p)
	s.emit(c.cause, "product.created", renderProduct(p), nil)
	return renderProduct(p), nil
}

func (p *product) read(c *call) {
	if c.has("name") {
		p.Name = c.str("name")
	}
	if c.has("description") {
		p.Description = c.str("description")
	}
	if active, given := c.boolean("active"); given {
		p.Archived = !active
	}
	p.Metadata = c.merge("metadata", p.Metadata)
}

func (s *Sim) updateProduct(c *call) (object, *apiError) {
	p, ok := s.products.get(c.id)
	if !ok {
		return nil, notFound("product", c.id)
	}
	next := *p
	next.read(c)
	if c.err != nil {
		return nil, c.err
	}
	before := renderProduct(p)
	if len(changed(before, renderProduct(&next))) > 0 {
		next.Updated = s.instant
	}
	*p = next
	s.emitUpdate(c.cause, "product.updated", before, renderProduct(p))
	return renderProduct(p), nil
}

func (s *Sim) listProducts(c *call) (object, *apiError) {
	ids, created := c.list("ids"), c.created()
	active, byActive := c.boolean("active")
	return c.page(s.products.newest(func(p *product) bool {
		return (len(ids) == 0 || slices.Contains(ids, p.ID)) && (!byActive || active != p.Archived) && created.has(p.Created)
	}, renderProduct))
}

func (s *Sim) createPrice(c *call) (object, *apiError) {
	p := &price{Created: s.instant}
	c.dollarsOnly("currency")
	s.readProductOf(c, p)
	readUnitOf(c, p)
	readRecurring(c, p)
	old := s.readPrice(c, p)
	if c.err != nil {
		return nil, c.err
	}
	if p.Product == nil {
		p.Product = &product{ID: s.ids.next("prod_", 14), Name: c.str("product_data[name]"), Created: s.instant, Updated: s.instant}
		s.products.add(p.Product)
		s.emit(c.cause, "product.created", renderProduct(p.Product), nil)
	}
	p.ID = s.ids.next("price_", 24)
	s.prices.add(p)
	s.dropLookupKey(c.cause, old, p)
	s.emit(c.cause, "price.created", renderPrice(p), nil)
	return renderPrice(p), nil
}

func (s *Sim) readProductOf(c *call, p *price) {
	id := c.str("product")
	switch {
	case id != "" && c.has("product_data"):
		c.fail(invalid("product_data", "You may only specify one of these parameters: product, product_data."))
	case id != "":
		found, ok := s.products.get(id)
		if !ok {
			c.fail(noSuch("product", id, "product"))
		}
		p.Product = found
	case c.has("product_data"):
		c.must("product_data[name]")
	default:
		c.fail(missingParam("product"))
	}
}

func readUnitOf(c *call, p *price) {
	c.oneOf("billing_scheme", "per_unit")
	switch {
	case c.has("unit_amount") && c.has("unit_amount_decimal"):
		c.fail(invalid("unit_amount_decimal", "You may only specify one of these parameters: unit_amount, unit_amount_decimal."))
	case c.has("unit_amount_decimal"):
		p.setUnit(c.decimal("unit_amount_decimal"))
	default:
		c.must("unit_amount")
		p.UnitAmount = c.integer("unit_amount", 0, 0, largest)
	}
}

func readRecurring(c *call, p *price) {
	if !c.has("recurring") {
		return
	}
	c.must("recurring[interval]")
	p.Months = int(c.integer("recurring[interval_count]", 1, 1, 36))
	switch interval := c.oneOf("recurring[interval]", "day", "month", "week", "year"); interval {
	case "day", "week":
		c.fail(notSimulated("recurring[interval]", "billing by the "+interval))
	case "year":
		p.Months *= 12
	}
	if p.Decimal != "" {
		c.fail(notSimulated("unit_amount_decimal", "recurring prices with fractions of a cent"))
	}
	if c.oneOf("recurring[usage_type]", "licensed", "metered") == "metered" {
		c.fail(notSimulated("recurring[usage_type]", "metered prices"))
	}
}

// readPrice reads what can change. Of the two prices that want a lookup key it
// returns the one that loses it.
func (s *Sim) readPrice(c *call, p *price) (loses *price) {
	if active, given := c.boolean("active"); given {
		p.Archived = !active
	}
	if c.has("nickname") {
		p.Nickname = c.str("nickname")
	}
	p.Metadata = c.merge("metadata", p.Metadata)
	transfer, _ := c.boolean("transfer_lookup_key")
	if !c.has("lookup_key") {
		return nil
	}
	p.LookupKey = c.str("lookup_key")
	owner, taken := s.priceByLookupKey(p.LookupKey)
	if !taken || p.LookupKey == "" || owner.ID == p.ID {
		return nil
	}
	if !transfer {
		c.fail(invalid("lookup_key", "A price (`"+owner.ID+"`) already uses that lookup key."))
	}
	return owner
}

// dropLookupKey takes a lookup key from the price that had it.
func (s *Sim) dropLookupKey(by cause, from, to *price) {
	if from == nil || from == to {
		return
	}
	before := renderPrice(from)
	from.LookupKey = ""
	s.emitUpdate(by, "price.updated", before, renderPrice(from))
}

func (s *Sim) updatePrice(c *call) (object, *apiError) {
	p, ok := s.prices.get(c.id)
	if !ok {
		return nil, notFound("price", c.id)
	}
	next := *p
	next.Metadata = maps.Clone(p.Metadata)
	old := s.readPrice(c, &next)
	if c.err != nil {
		return nil, c.err
	}
	s.dropLookupKey(c.cause, old, p)
	before := renderPrice(p)
	*p = next
	s.emitUpdate(c.cause, "price.updated", before, renderPrice(p))
	return renderPrice(p), nil
}
