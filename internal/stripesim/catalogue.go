package stripesim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

const currency = "usd"

type product struct {
	id      string
	name    string
	created time.Time
}

type price struct {
	id         string
	lookupKey  string
	product    *product
	unitAmount int64
	metadata   map[string]string
	created    time.Time
}

func validateCatalogue(prices []Price) error {
	seen := map[string]bool{}
	for _, p := range prices {
		switch {
		case p.LookupKey == "" || p.ProductName == "":
			return errors.New("a price needs a LookupKey and a ProductName")
		case p.UnitAmount < 0:
			return fmt.Errorf("price %q has a negative amount", p.LookupKey)
		case seen[p.LookupKey]:
			return fmt.Errorf("lookup key %q is used twice", p.LookupKey)
		}
		seen[p.LookupKey] = true
	}
	return nil
}

func (s *Sim) loadCatalogue(prices []Price) {
	now := s.now().UTC()
	byName := map[string]*product{}
	for _, p := range prices {
		prod := byName[p.ProductName]
		if prod == nil {
			prod = &product{id: s.ids.next("prod_", 14), name: p.ProductName, created: now}
			byName[p.ProductName] = prod
			s.products.add(prod.id, prod)
		}
		id := s.ids.next("price_", 24)
		s.prices.add(id, &price{
			id: id, lookupKey: p.LookupKey, product: prod, unitAmount: p.UnitAmount,
			metadata: maps.Clone(p.Metadata), created: now,
		})
	}
}

func (s *Sim) listPrices(c *call) (object, *apiError) {
	keys, prod, kind, cur := c.list("lookup_keys"), c.str("product"), c.oneOf("type", "one_time", "recurring"), c.str("currency")
	if active, given := c.boolean("active"); given && !active || kind == "one_time" || cur != "" && cur != currency {
		return c.page(nil) // the whole catalogue is active, recurring and in one currency
	}
	return c.page(s.prices.newest(func(p *price) bool {
		return (len(keys) == 0 || slices.Contains(keys, p.lookupKey)) && (prod == "" || p.product.id == prod)
	}, renderPrice))
}

func (s *Sim) getPrice(c *call) (object, *apiError) {
	p, ok := s.prices.get(c.id)
	if !ok {
		return nil, notFound("price", c.id)
	}
	return renderPrice(p), nil
}

func (s *Sim) getProduct(c *call) (object, *apiError) {
	p, ok := s.products.get(c.id)
	if !ok {
		return nil, notFound("product", c.id)
	}
	return renderProduct(p), nil
}

func renderProduct(p *product) object {
	return object{
		"id": p.id, "object": "product", "active": true, "created": p.created.Unix(), "default_price": nil,
		"description": nil, "features": []any{}, "images": []any{}, "livemode": false, "marketing_features": []any{},
		"metadata": object{}, "name": p.name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil,
		"tax_code": nil, "type": "service", "unit_label": nil, "updated": p.created.Unix(), "url": nil,
	}
}

func renderPrice(p *price) object {
	return object{
		"id": p.id, "object": "price", "active": true, "billing_scheme": "per_unit", "created": p.created.Unix(),
		"currency": currency, "custom_unit_amount": nil, "livemode": false, "lookup_key": p.lookupKey,
		"metadata": renderMetadata(p.metadata), "nickname": nil, "product": p.product.id,
		"recurring": object{
			"aggregate_usage": nil, "interval": "month", "interval_count": 1, "meter": nil,
			"trial_period_days": nil, "usage_type": "licensed",
		},
		"tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil, "type": "recurring",
		"unit_amount": p.unitAmount, "unit_amount_decimal": strconv.FormatInt(p.unitAmount, 10),
	}
}

// renderMetadata copies, so that a snapshot does not change with its object.
func renderMetadata(m map[string]string) object {
	out := object{}
	for k, v := range m {
		out[k] = v
	}
	return out
}
