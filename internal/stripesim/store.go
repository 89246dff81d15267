package stripesim

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
)

// object is a Stripe object on its way to JSON.
type object = map[string]any

// keyed is a pointer to something that has an id.
type keyed interface {
	comparable
	key() string
}

// collection keeps objects of one kind in the order they were made: Stripe lists
// newest first, and one-second timestamps cannot tell that order.
type collection[T keyed] struct {
	byID  map[string]T
	items []T
}

func (c *collection[T]) add(item T) {
	if c.byID == nil {
		c.byID = map[string]T{}
	}
	c.byID[item.key()] = item
	c.items = append(c.items, item)
}

// index makes byID from items that were set as a whole.
func (c *collection[T]) index() error {
	items := c.items
	c.items, c.byID = nil, nil
	var none T
	for _, item := range items {
		if item == none || item.key() == "" {
			return fmt.Errorf("a %T has no id", none)
		}
		if _, twice := c.get(item.key()); twice {
			return fmt.Errorf("%s is there twice", item.key())
		}
		c.add(item)
	}
	return nil
}

func (c *collection[T]) remove(item T) {
	delete(c.byID, item.key())
	c.items = slices.DeleteFunc(c.items, func(other T) bool { return other == item })
}

func (c *collection[T]) get(id string) (T, bool) {
	item, ok := c.byID[id]
	return item, ok
}

// newest renders the items that match, newest first.
func (c *collection[T]) newest(match func(T) bool, render func(T) object) []object {
	out := []object{}
	for _, item := range slices.Backward(c.items) {
		if match(item) {
			out = append(out, render(item))
		}
	}
	return out
}

// find renders any object a response can refer to by id.
func (s *Sim) find(id string) (object, bool) {
	if c, ok := s.customers.get(id); ok {
		return renderCustomer(c), true
	}
	if sub, ok := s.subscriptions.get(id); ok {
		return renderSubscription(sub), true
	}
	if sc, ok := s.schedules.get(id); ok {
		return renderSchedule(sc), true
	}
	if inv, ok := s.invoices.get(id); ok {
		return renderInvoice(inv), true
	}
	if p, ok := s.products.get(id); ok {
		return renderProduct(p), true
	}
	if pi, ok := s.intents.get(id); ok {
		return renderIntent(pi), true
	}
	if ch, ok := s.charges.get(id); ok {
		return renderCharge(ch), true
	}
	return nil, false
}

// idSource makes identifiers like Stripe's. It has its own lock because request
// ids are made before the state is looked at.
type idSource struct {
	mu    sync.Mutex
	rand  io.Reader
	taken map[string]bool // by an earlier run, whose entropy a seeded test repeats
}

var idRE = regexp.MustCompile(`\b[a-z]+_[0-9A-Za-z_]+\b`)

// reserve keeps every id in a state file from being made again. What only looks
// like an id does no harm.
func (g *idSource) reserve(content []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = map[string]bool{}
	for _, id := range idRE.FindAll(content, -1) {
		g.taken[string(id)] = true
	}
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (g *idSource) next(prefix string, n int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range len(g.taken) + 1 {
		if id := prefix + g.draw(n); !g.taken[id] {
			return id
		}
	}
	panic("stripesim: entropy source is stuck")
}

func (g *idSource) draw(n int) string {
	b := make([]byte, n)
	if _, err := io.ReadFull(g.rand, b); err != nil {
		// Without entropy ids would repeat and objects overwrite each other.
		panic("stripesim: entropy source failed: " + err.Error())
	}
	for i := range b {
		b[i] = base62[int(b[i])%len(base62)] // the slight bias is harmless here
	}
	return string(b)
}

// orNull is Stripe's habit of showing an unset string as null.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// listOf is Stripe's envelope for a list inside another object.
func listOf(url string, data ...object) object {
	if data == nil {
		data = []object{}
	}
	return object{"object": "list", "data": data, "has_more": false, "url": url}
}
