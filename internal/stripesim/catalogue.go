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
	ID      string
	Name    string
	Created time.Time
}

func (p *product) key() string { return p.ID }

type price struct {
	ID         string
	LookupKey  string
	Product    *product
	UnitAmount int64
	Metadata   map[string]string
	Created    time.Time
}

func (p *price) key() string { return p.ID }

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

// loadCatalogue adds what is new to what the state file knew. Config.StateFile
// says what becomes of a changed entry.
func (s *Sim) loadCatalogue(prices []Price) {
	now := s.now().UTC()
	for _, p := range prices {
		old, known := s.priceByLookupKey(p.LookupKey)
		if known && old.is(p) {
			continue
		}
		if known {
			old.LookupKey = "" // at most one price has a lookup key at a time
		}
		s.prices.add(&price{
			ID: s.ids.next("price_", 24), LookupKey: p.LookupKey, Product: s.productNamed(p.ProductName, now),
			UnitAmount: p.UnitAmount, Metadata: maps.Clone(p.Metadata), Created: now,
		})
	}
}

func (s *Sim) priceByLookupKey(key string) (*price, bool) {
	for _, p := range s.prices.items {
		if p.LookupKey == key {
			return p, true
		}
	}
	return nil, false
}

func (p *price) is(entry Price) bool {
	return p.UnitAmount == entry.UnitAmount && p.Product.Name == entry.ProductName && maps.Equal(p.Metadata, entry.Metadata)
}

func (s *Sim) productNamed(name string, now time.Time) *product {
	for _, p := range s.products.items {
		if p.Name == name {
			return p
		}
	}
	p := &product{ID: s.ids.next("prod_", 14), Name: name, Created: now}
	s.products.add(p)
	return p
}

func (s *Sim) listPrices(c *call) (object, *apiError) {
	keys, prod, kind, cur := c.list("lookup_keys"), c.str("product"), c.oneOf("type", "one_time", "recurring"), c.str("currency")
	if active, given := c.boolean("active"); given && !active || kind == "one_time" || cur != "" && cur != currency {
		return c.page(nil) // the whole catalogue is active, recurring and in one currency
	}
	return c.page(s.prices.newest(func(p *price) bool {
		return (len(keys) == 0 || slices.Contains(keys, p.LookupKey)) && (prod == "" || p.Product.ID == prod)
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
		"id": p.ID, "object": "product", "active": true, "created": p.Created.Unix(), "default_price": nil,
		"description": nil, "features": []any{}, "images": []any{}, "livemode": false, "marketing_features": []any{},
		"metadata": object{}, "name": p.Name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil,
		"tax_code": nil, "type": "service", "unit_label": nil, "updated": p.Created.Unix(), "url": nil,
	}
}

func renderPrice(p *price) object {
	return object{
		"id": p.ID, "object": "price", "active": true, "billing_scheme": "per_unit", "created": p.Created.Unix(),
		"currency": currency, "custom_unit_amount": nil, "livemode": false, "lookup_key": orNull(p.LookupKey),
		"metadata": renderMetadata(p.Metadata), "nickname": nil, "product": p.Product.ID,
		"recurring": object{
			"aggregate_usage": nil, "interval": "month", "interval_count": 1, "meter": nil,
			"trial_period_days": nil, "usage_type": "licensed",
		},
		"tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil, "type": "recurring",
		"unit_amount": p.UnitAmount, "unit_amount_decimal": strconv.FormatInt(p.UnitAmount, 10),
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
