package stripesim

import (
	"io"
	"slices"
	"sync"
	"time"
)

// object is a Stripe object on its way to JSON.
type object = map[string]any

// collection keeps objects of one kind in the order they were made: Stripe lists
// newest first, and one-second timestamps cannot tell that order.
type collection[T any] struct {
	byID  map[string]*T
	items []*T
}

func (c *collection[T]) add(id string, item *T) {
	if c.byID == nil {
		c.byID = map[string]*T{}
	}
	c.byID[id] = item
	c.items = append(c.items, item)
}

func (c *collection[T]) get(id string) (*T, bool) {
	item, ok := c.byID[id]
	return item, ok
}

func (c *collection[T]) oldestFirst() []*T { return slices.Clone(c.items) }

// newest renders the items that match, newest first.
func (c *collection[T]) newest(match func(*T) bool, render func(*T) object) []object {
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
	if inv, ok := s.invoices.get(id); ok {
		return renderInvoice(inv), true
	}
	if p, ok := s.products.get(id); ok {
		return renderProduct(p), true
	}
	return nil, false
}

// idSource makes identifiers like Stripe's. It has its own lock because request
// ids are made before the state is looked at.
type idSource struct {
	mu   sync.Mutex
	rand io.Reader
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (g *idSource) next(prefix string, n int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := make([]byte, n)
	if _, err := io.ReadFull(g.rand, b); err != nil {
		// Without entropy ids would repeat and objects overwrite each other.
		panic("stripesim: entropy source failed: " + err.Error())
	}
	for i := range b {
		b[i] = base62[int(b[i])%len(base62)] // the slight bias is harmless here
	}
	return prefix + string(b)
}

// addMonths is the n-th monthly anniversary of t in UTC. A day the month does
// not have becomes its last day, always counted from t, so that 31 January is
// followed by 28 February and then by 31 March.
func addMonths(t time.Time, n int) time.Time {
	t = t.UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// orNull is Stripe's habit of showing an unset string as null.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// unixOrNull shows an instant that has not happened as null.
func unixOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}

// listOf is Stripe's envelope for a list inside another object.
func listOf(url string, data ...object) object {
	if data == nil {
		data = []object{}
	}
	return object{"object": "list", "data": data, "has_more": false, "url": url}
}
