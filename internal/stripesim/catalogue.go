package stripesim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const currency = "usd"

type product struct {
	ID          string
	Name        string
	Description string
	Metadata    map[string]string
	Archived    bool
	Created     time.Time
	Updated     time.Time
}

func (p *product) key() string { return p.ID }

type price struct {
	ID         string
	LookupKey  string
	Product    *product
	UnitAmount int64
	Decimal    string // where UnitAmount cannot say it: fractions of a cent
	Months     int    // between payments; 0 is paid once
	Archived   bool
	Nickname   string
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
	now := s.clock()
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
			UnitAmount: p.UnitAmount, Months: 1, Metadata: maps.Clone(p.Metadata), Created: now,
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
		if p.Name == name && !p.Archived {
			return p
		}
	}
	p := &product{ID: s.ids.next("prod_", 14), Name: name, Created: now, Updated: now}
	s.products.add(p)
	return p
}

func (s *Sim) listPrices(c *call) (object, *apiError) {
	keys, prod, kind, cur := c.list("lookup_keys"), c.str("product"), c.oneOf("type", "one_time", "recurring"), c.str("currency")
	active, byActive := c.boolean("active")
	return c.page(s.prices.newest(func(p *price) bool {
		return (len(keys) == 0 || slices.Contains(keys, p.LookupKey)) && (prod == "" || p.Product.ID == prod) &&
			(kind == "" || kind == p.kind()) && (!byActive || active != p.Archived) && (cur == "" || cur == currency)
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
		"id": p.ID, "object": "product", "active": !p.Archived, "created": p.Created.Unix(), "default_price": nil,
		"description": orNull(p.Description), "features": []any{}, "images": []any{}, "livemode": false, "marketing_features": []any{},
		"metadata": renderMetadata(p.Metadata), "name": p.Name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil,
		"tax_code": nil, "type": "service", "unit_label": nil, "updated": p.Updated.Unix(), "url": nil,
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
