package stripesim

import (
	"strconv"
	"time"
)

const (
	sessionOpen     = "open"
	sessionComplete = "complete"
	sessionExpired  = "expired"

	modePayment      = "payment"
	modeSubscription = "subscription"

	sessionLifetime = 24 * time.Hour // Stripe's default and its longest
)

type checkoutSession struct {
	ID      string
	LineID  string
	URL     string // kept as it was made: what was handed out must not change with a restart
	Created time.Time

	Price        *price
	Quantity     int64
	SuccessURL   string
	CancelURL    string
	Reference    string
	Email        string
	Metadata     map[string]string
	SubMetadata  map[string]string
	SubText      string
	Options      object // presentation options, echoed
	ExpiresAt    time.Time
	HadCustomer  bool // when it was made; otherwise payment makes one
	Customer     *customer
	Status       string
	Subscription string
	Invoice      string

	Mode           string
	Creation       string // of a customer, in payment mode
	PayerEmail     string
	TrialDays      int64
	NoCardBehavior string
	Intent         string
	IntentMetadata map[string]string
	IntentText     string
}

func (cs *checkoutSession) key() string { return cs.ID }

func (cs *checkoutSession) due() time.Time {
	if cs.Status != sessionOpen {
		return time.Time{}
	}
	return cs.ExpiresAt
}

func (s *Sim) createSession(c *call) (object, *apiError) {
	cs := &checkoutSession{Created: c.now, Status: sessionOpen}
	s.readSession(c, cs)
	if c.err != nil {
		return nil, c.err
	}
	if cs.Price == nil {
		cs.Price = s.sessionPrice(c)
	}
	cs.ID, cs.LineID = s.ids.next("cs_test_a1", 56), s.ids.next("li_1", 23)
	cs.URL = s.baseURL + "/c/pay/" + cs.ID
	s.sessions.add(cs)
	return renderSession(cs), nil
}

func (s *Sim) readSession(c *call, cs *checkoutSession) {
	cs.Mode = c.oneOf("mode", modePayment, "setup", modeSubscription)
	if cs.Mode == "setup" {
		c.fail(notSimulated("mode", "Checkout in setup mode"))
	}
	if ui := c.oneOf("ui_mode", "embedded", "hosted"); ui == "embedded" {
		c.fail(notSimulated("ui_mode", "embedded Checkout"))
	}
	s.readSold(c, cs)
	c.must("success_url")
	cs.SuccessURL, cs.CancelURL = c.webURL("success_url"), c.webURL("cancel_url")
	cs.Reference, cs.Email = c.str("client_reference_id"), c.str("customer_email")
	cs.Customer, cs.HadCustomer = s.customers.get(s.customerParam(c))
	if cs.HadCustomer && cs.Email != "" {
		c.fail(invalid("customer_email", "You may only specify one of these parameters: customer, customer_email."))
	}
	cs.Metadata = c.merge("metadata", nil)
	s.readMode(c, cs)
	// Stripe takes anything from 30 minutes to 24 hours.
	soonest, latest := c.now.Add(30*time.Minute).Unix(), c.now.Add(sessionLifetime).Unix()
	cs.ExpiresAt = time.Unix(c.integer("expires_at", latest, soonest, latest), 0).UTC()
	cs.Options = readOptions(c)
}

func readOptions(c *call) object {
	out := object{
		"allow_promotion_codes":      nil,
		"billing_address_collection": orNull(c.oneOf("billing_address_collection", "auto", "required")),
		"locale":                     orNull(c.str("locale")),
		"payment_method_collection":  "always",
		"payment_method_types":       []string{"card"},
	}
	if allow, given := c.boolean("allow_promotion_codes"); given {
		out["allow_promotion_codes"] = allow
	}
	if v := c.oneOf("payment_method_collection", "always", "if_required"); v != "" {
		out["payment_method_collection"] = v
	}
	if types := c.list("payment_method_types"); len(types) > 0 {
		out["payment_method_types"] = types
	}
	return out
}

func (s *Sim) getSession(c *call) (object, *apiError) {
	cs, ok := s.sessions.get(c.id)
	if !ok {
		return nil, notFound("checkout.session", c.id)
	}
	return renderSession(cs), nil
}

func (s *Sim) listSessions(c *call) (object, *apiError) {
	cust, sub, intent, created := s.customerFilter(c), c.str("subscription"), c.str("payment_intent"), c.created()
	status := c.oneOf("status", sessionComplete, sessionExpired, sessionOpen)
	return c.page(s.sessions.newest(func(cs *checkoutSession) bool {
		return (cust == "" || cs.Customer != nil && cs.Customer.ID == cust) &&
			(sub == "" || cs.Subscription == sub) && (status == "" || cs.Status == status) &&
			(intent == "" || cs.Intent == intent) && created.has(cs.Created)
	}, renderSession))
}

func (s *Sim) expireSessionCall(c *call) (object, *apiError) {
	cs, ok := s.sessions.get(c.id)
	switch {
	case !ok:
		return nil, notFound("checkout.session", c.id)
	case cs.Status != sessionOpen: // expiring must not race with a payment and win
		return nil, invalid("session", `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of `+cs.Status+".")
	}
	s.expireSession(c.cause, cs)
	return renderSession(cs), nil
}

func (s *Sim) expireSession(by cause, cs *checkoutSession) {
	cs.Status = sessionExpired
	s.emit(by, "checkout.session.expired", renderSession(cs), nil)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// dollars is for people on the hosted pages.
func dollars(cents int64) string {
	if cents < 0 {
		return "-" + dollars(-cents)
	}
	return "$" + strconv.FormatFloat(float64(cents)/100, 'f', 2, 64)
}
