package stripesim

import (
	"cmp"
	"fmt"
)

// relink makes one object again of what the file holds several times. Objects
// point at each other, and JSON follows a pointer: a subscription is written
// with a copy of its price. Of such a copy only the id counts.
func (s *Sim) relink() error {
	var errs []error
	for _, p := range s.prices.items {
		errs = append(errs, relink(&s.products, &p.Product))
	}
	for _, sub := range s.subscriptions.items {
		cust := &customer{ID: sub.Customer}
		errs = append(errs, relink(&s.prices, &sub.Price), relink(&s.customers, &cust))
		if _, ok := s.schedules.get(sub.Schedule); !ok && sub.Schedule != "" {
			errs = append(errs, fmt.Errorf("%s is referred to and not there", sub.Schedule))
		}
		if sub.Pending != nil {
			errs = append(errs, relink(&s.prices, &sub.Pending.Price))
		}
	}
	for _, sc := range s.schedules.items {
		sub := &subscription{ID: sc.Subscription}
		errs = append(errs, relink(&s.subscriptions, &sub))
		for i := range sc.Phases {
			errs = append(errs, relink(&s.prices, &sc.Phases[i].Price))
		}
	}
	for _, inv := range s.invoices.items {
		errs = append(errs, relink(&s.customers, &inv.Customer))
		for i := range inv.Lines {
			errs = append(errs, relink(&s.prices, &inv.Lines[i].Price))
		}
	}
	for _, it := range s.items.items {
		errs = append(errs, relink(&s.prices, &it.Line.Price))
	}
	for _, cs := range s.sessions.items {
		errs = append(errs, relink(&s.prices, &cs.Price))
		if cs.Customer != nil {
			errs = append(errs, relink(&s.customers, &cs.Customer))
		}
	}
	for _, ps := range s.portals.items {
		errs = append(errs, relink(&s.customers, &ps.Customer), s.relinkFlow(ps.Flow))
		if _, ok := s.configs.get(ps.Config); !ok {
			errs = append(errs, fmt.Errorf("%s is referred to and not there", ps.Config))
		}
	}
	return cmp.Or(errs...)
}

func (s *Sim) relinkFlow(f *portalFlow) error {
	var errs []error
	if f != nil && f.Subscription != nil {
		errs = append(errs, relink(&s.subscriptions, &f.Subscription))
	}
	if f != nil && f.Price != nil {
		errs = append(errs, relink(&s.prices, &f.Price))
	}
	return cmp.Or(errs...)
}

func relink[T keyed](c *collection[T], ref *T) error {
	var none T
	if *ref == none {
		return fmt.Errorf("a %T is missing", none)
	}
	item, ok := c.get((*ref).key())
	if !ok {
		return fmt.Errorf("%s is referred to and not there", (*ref).key())
	}
	*ref = item
	return nil
}
