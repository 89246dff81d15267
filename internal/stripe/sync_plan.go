package stripe

import (
	"fmt"
	"slices"
	"strings"

	stripego "github.com/stripe/stripe-go/v76"
)

// portalKind tells our portal configurations apart. A flow that changes the plan works only under a configuration that
// allows it, and the portal's own pages would allow it then, too; so there are two.
type portalKind string

const (
	portalHome       portalKind = "home"
	portalPlanChange portalKind = "plan_change"
)

// atPeriodEnd is the mode of cancellations, and when downgrades take effect.
const atPeriodEnd = "at_period_end"

// features are what a portal configuration lets customers do.
type features struct {
	PaymentMethods, Invoices bool
	Cancellation             string // the mode; "" is off
	Proration                string // of a change of plan; "" is that there is none
	Downgrade                string // when a change to a lesser plan takes effect; "" is at once
}

// featuresOf returns the features that a configuration should have. What an upgrade costs is charged at once; what a
// downgrade leaves of a month is used up first.
func featuresOf(kind portalKind) features {
	f := features{PaymentMethods: true, Invoices: true, Cancellation: atPeriodEnd}
	if kind == portalPlanChange {
		f.Proration, f.Downgrade = "always_invoice", atPeriodEnd
	}
	return f
}

// planSync computes what is to be done. It asks nobody.
func planSync(there installed, want desired) Sync {
	var s Sync
	for _, o := range want.Offers {
		s.sold = append(s.sold, s.planOffer(there, o, len(s.sold)))
	}
	for _, kind := range []portalKind{portalHome, portalPlanChange} {
		s.planPortal(there.Portals, kind)
	}
	if want.WebhookURL != "" {
		s.planEndpoint(there.Endpoints, want.WebhookURL)
	}
	return s
}

func (s *Sync) add(change Change) { s.Changes = append(s.Changes, change) }

func (s *Sync) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// planOffer plans an offer's product and price. n is its place among those that are sold.
func (s *Sync) planOffer(there installed, o offer, n int) sold {
	current := find(there.Prices, func(p price) bool { return p.LookupKey == o.LookupKey })
	p := s.planProduct(there.Products, o, current)
	priceID := s.planPrice(n, o, current)
	for _, old := range there.Prices {
		replaced := current != nil && old.ID == current.ID && priceID == ""
		left := old.Managed && old.LookupKey == "" && old.Tier == string(o.Tier) // by a sync that did not come to its end
		if replaced || left {
			s.add(archivePrice(n, old, old.ID == p.DefaultPriceID))
		}
	}
	return sold{offer: o, ProductID: p.ID, PriceID: priceID}
}

// planProduct returns the offer's product: that of its price, or one that says so, or a new one.
func (s *Sync) planProduct(there []product, o offer, current *price) product {
	found := find(there, func(p product) bool {
		if current != nil {
			return p.ID == current.ProductID
		}
		return p.Tier == string(o.Tier) || p.ID == productID(o)
	})
	if found == nil {
		s.add(createProduct(o))
		return product{ID: productID(o)}
	}
	if found.Name != o.Name || found.Tier != string(o.Tier) || !found.Active {
		s.add(changeProduct(found.ID, o))
	}
	return *found
}

// planPrice returns the id of the offer's price, "" if it is to be created.
func (s *Sync) planPrice(n int, o offer, current *price) string {
	if current == nil || current.Cents != o.Cents || !current.Monthly {
		s.add(createPrice(n, o, current))
		return ""
	}
	if current.Tier != string(o.Tier) {
		s.add(changePrice(current.ID, o))
	}
	return current.ID
}

// productID is the id of a product that a sync creates.
func productID(o offer) string { return "keymeter_" + string(o.Tier) }

// planPortal plans a portal configuration. Which products it offers is read from its metadata, as Stripe does not list
// them; so is what it does with downgrades, which is in none of the answers of our API version.
func (s *Sync) planPortal(there []portal, kind portalKind) {
	current := find(there, func(p portal) bool { return p.Kind == kind })
	if current == nil {
		s.add(writePortal("create", "", kind))
		return
	}
	same := current.Features == featuresOf(kind)
	if kind == portalPlanChange {
		same = same && current.Products == productsOf(s.sold) &&
			!slices.ContainsFunc(s.sold, func(o sold) bool { return o.PriceID == "" })
	}
	if !same {
		s.add(writePortal("change", current.ID, kind))
	}
}

// productsOf writes down which products and prices a portal configuration offers.
func productsOf(offers []sold) string {
	pairs := make([]string, len(offers))
	for i, o := range offers {
		pairs[i] = o.ProductID + "=" + o.PriceID
	}
	return strings.Join(pairs, " ")
}

func (s *Sync) planEndpoint(there []endpoint, url string) {
	ours := slices.DeleteFunc(slices.Clone(there), func(e endpoint) bool { return e.URL != url })
	if len(ours) == 0 {
		s.add(createEndpoint(url))
		return
	}
	if len(ours) > 1 {
		s.warn("%d webhook endpoints have the URL %s: each event comes as often", len(ours), url)
	}
	for _, e := range ours {
		if e.Version != stripego.APIVersion {
			s.warn("the webhook endpoint %s has the API version %q, not %s, which can't be changed: delete it and run this again",
				e.ID, e.Version, stripego.APIVersion)
		}
	}
	if e := ours[0]; !e.Enabled || !slices.Equal(slices.Sorted(slices.Values(e.Events)), eventTypes) {
		s.add(changeEndpoint(e.ID, url))
	}
}

// find returns the first that matches, nil if none does.
func find[T any](all []T, match func(T) bool) *T {
	if i := slices.IndexFunc(all, match); i >= 0 {
		return &all[i]
	}
	return nil
}
