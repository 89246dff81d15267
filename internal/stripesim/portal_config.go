package stripesim

import (
	"slices"
	"strconv"
	"time"
)

// Conditions on which the portal puts a change of plan off.
const (
	decreasingAmount   = "decreasing_item_amount"
	shorteningInterval = "shortening_interval"
)

// portalConfig is what customers may do in the portal.
type portalConfig struct {
	ID        string
	Default   bool
	Archived  bool
	Created   time.Time
	Updated   time.Time
	ReturnURL string
	Headline  string
	Privacy   string
	Terms     string
	Metadata  map[string]string

	CanUpdate     bool
	Proration     string
	AllowedUpdate []string
	Products      []portalProduct
	PutsOff       []string // conditions on which a change waits for the end of the period

	CanCancel       bool
	CancelMode      string
	CancelProration string

	CanEditCustomer bool
	CustomerFields  []string
	ShowsInvoices   bool
	CanChangeCard   bool
}

// portalProduct is a product that can be changed to, by some of its prices.
type portalProduct struct {
	Product string
	Prices  []string
}

func (pc *portalConfig) key() string { return pc.ID }

// defaultConfig is that of an account that set nothing up: everything is allowed
// and a change of plan is invoiced at once, but for one to a lesser plan, which
// waits for the end of the period.
func (s *Sim) defaultConfig() *portalConfig {
	now := s.clock()
	return &portalConfig{
		ID: s.ids.next("bpc_", 24), Default: true, Created: now, Updated: now,
		CanUpdate: true, Proration: prorateNow, AllowedUpdate: []string{"price"}, PutsOff: []string{decreasingAmount},
		CanCancel: true, CancelMode: "at_period_end", CancelProration: prorateNone,
		ShowsInvoices: true, CanChangeCard: true,
	}
}

func (s *Sim) createConfig(c *call) (object, *apiError) {
	pc := &portalConfig{
		Created: s.instant, Updated: s.instant, Proration: prorateNone, CancelMode: "at_period_end", CancelProration: prorateNone,
	}
	pc.read(c)
	if c.err != nil {
		return nil, c.err
	}
	pc.ID = s.ids.next("bpc_1", 23)
	s.configs.add(pc)
	s.emit(c.cause, "billing_portal.configuration.created", renderConfig(pc), nil)
	return renderConfig(pc), nil
}

func (s *Sim) updateConfig(c *call) (object, *apiError) {
	pc, ok := s.configs.get(c.id)
	if !ok {
		return nil, notFound("configuration", c.id)
	}
	next := *pc
	next.read(c)
	if active, given := c.boolean("active"); given {
		next.Archived = !active
	}
	if c.err != nil {
		return nil, c.err
	}
	before := renderConfig(pc)
	if len(changed(before, renderConfig(&next))) > 0 {
		next.Updated = s.instant
	}
	*pc = next
	s.emitUpdate(c.cause, "billing_portal.configuration.updated", before, renderConfig(pc))
	return renderConfig(pc), nil
}

func (pc *portalConfig) read(c *call) {
	for name, field := range map[string]*string{
		"business_profile[headline]": &pc.Headline, "business_profile[privacy_policy_url]": &pc.Privacy,
		"business_profile[terms_of_service_url]": &pc.Terms, "default_return_url": &pc.ReturnURL,
	} {
		if c.has(name) {
			*field = c.str(name)
		}
	}
	for name, field := range map[string]*bool{
		"subscription_update": &pc.CanUpdate, "subscription_cancel": &pc.CanCancel, "customer_update": &pc.CanEditCustomer,
		"invoice_history": &pc.ShowsInvoices, "payment_method_update": &pc.CanChangeCard,
	} {
		if enabled, given := c.boolean("features[" + name + "][enabled]"); given {
			*field = enabled
		}
	}
	const cancel = "features[subscription_cancel]"
	pc.CancelMode = firstOf(c.oneOf(cancel+"[mode]", "at_period_end", "immediately"), pc.CancelMode)
	pc.CancelProration = firstOf(c.oneOf(cancel+"[proration_behavior]", prorateNow, prorateLater, prorateNone), pc.CancelProration)
	if c.has("features[customer_update][allowed_updates]") {
		pc.CustomerFields = c.list("features[customer_update][allowed_updates]")
	}
	pc.readUpdate(c)
	pc.Metadata = c.merge("metadata", pc.Metadata)
}

func (pc *portalConfig) readUpdate(c *call) {
	const update = "features[subscription_update]"
	pc.Proration = firstOf(c.oneOf(update+"[proration_behavior]", prorateNow, prorateLater, prorateNone), pc.Proration)
	if c.has(update + "[default_allowed_updates]") {
		pc.AllowedUpdate = c.list(update + "[default_allowed_updates]")
	}
	pc.readPutsOff(c)
	if !c.has(update + "[products]") {
		return
	}
	pc.Products = nil
	for i := 0; ; i++ {
		one := update + "[products][" + strconv.Itoa(i) + "]"
		if !c.has(one) {
			break
		}
		pc.Products = append(pc.Products, portalProduct{Product: c.must(one + "[product]"), Prices: c.list(one + "[prices]")})
	}
	if len(pc.Products) > 10 {
		c.fail(invalid(update+"[products]", "A configuration takes up to 10 products."))
	}
}

// readPutsOff reads on what conditions a change waits. Stripe has the parameter
// since a later version, and says to send that.
func (pc *portalConfig) readPutsOff(c *call) {
	const at = "features[subscription_update][schedule_at_period_end]"
	if !c.has(at) {
		return
	}
	if c.version < putsOffSince {
		c.fail(unknownParam(at))
	}
	pc.PutsOff = nil
	for i := 0; ; i++ {
		one := at + "[conditions][" + strconv.Itoa(i) + "][type]"
		if !c.has(one) {
			return
		}
		pc.PutsOff = append(pc.PutsOff, c.oneOf(one, decreasingAmount, shorteningInterval))
	}
}

// putsOff says whether a change waits for the end of the period.
func (pc *portalConfig) putsOff(sub *subscription, to *price, quantity int64) bool {
	return slices.Contains(pc.PutsOff, decreasingAmount) && to.UnitAmount*quantity < sub.amount()
}

// offers says whether a customer may change to a price.
func (pc *portalConfig) offers(p *price) bool {
	if !pc.CanUpdate || !slices.Contains(pc.AllowedUpdate, "price") {
		return false
	}
	return pc.Default && len(pc.Products) == 0 || slices.ContainsFunc(pc.Products, func(one portalProduct) bool {
		return one.Product == p.Product.ID && slices.Contains(one.Prices, p.ID)
	})
}

func (s *Sim) getConfig(c *call) (object, *apiError) {
	pc, ok := s.configs.get(c.id)
	if !ok {
		return nil, notFound("configuration", c.id)
	}
	return renderConfig(pc), nil
}

func (s *Sim) listConfigs(c *call) (object, *apiError) {
	active, byActive := c.boolean("active")
	isDefault, byDefault := c.boolean("is_default")
	return c.page(s.configs.newest(func(pc *portalConfig) bool {
		return (!byActive || active != pc.Archived) && (!byDefault || isDefault == pc.Default)
	}, renderConfig))
}

func renderConfig(pc *portalConfig) object {
	conditions := []object{}
	for _, kind := range pc.PutsOff {
		conditions = append(conditions, object{"type": kind})
	}
	products := []object{}
	for _, one := range pc.Products {
		products = append(products, object{
			"product": one.Product, "prices": orEmpty(one.Prices),
			"adjustable_quantity": object{"enabled": false, "maximum": nil, "minimum": 1},
		})
	}
	return object{
		"id": pc.ID, "object": "billing_portal.configuration", "active": !pc.Archived, "application": nil,
		"business_profile": object{
			"headline": orNull(pc.Headline), "privacy_policy_url": orNull(pc.Privacy), "terms_of_service_url": orNull(pc.Terms),
		},
		"created": pc.Created.Unix(), "default_return_url": orNull(pc.ReturnURL),
		"features": object{
			"customer_update":       object{"enabled": pc.CanEditCustomer, "allowed_updates": orEmpty(pc.CustomerFields)},
			"invoice_history":       object{"enabled": pc.ShowsInvoices},
			"payment_method_update": object{"enabled": pc.CanChangeCard},
			"subscription_cancel": object{
				"enabled": pc.CanCancel, "mode": pc.CancelMode, "proration_behavior": pc.CancelProration,
				"cancellation_reason": object{"enabled": false, "options": []any{}},
			},
			"subscription_update": object{
				"enabled": pc.CanUpdate, "default_allowed_updates": orEmpty(pc.AllowedUpdate), "products": products,
				"proration_behavior": pc.Proration, "schedule_at_period_end": object{"conditions": conditions},
				"trial_update_behavior": "end_trial",
			},
		},
		"is_default": pc.Default, "livemode": false, "login_page": object{"enabled": false, "url": nil},
		"metadata": renderMetadata(pc.Metadata), "updated": pc.Updated.Unix(),
	}
}

// orEmpty is a list that JSON shows as one.
func orEmpty(list []string) []string { return append([]string{}, list...) }
