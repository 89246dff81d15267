package stripesim

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	sessionOpen     = "open"
	sessionComplete = "complete"
	sessionExpired  = "expired"

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
	cs.ID, cs.LineID = s.ids.next("cs_test_a1", 56), s.ids.next("li_1", 23)
	cs.URL = s.baseURL + "/c/pay/" + cs.ID
	s.sessions.add(cs)
	return renderSession(cs), nil
}

func (s *Sim) readSession(c *call, cs *checkoutSession) {
	switch mode := c.oneOf("mode", "payment", "setup", "subscription"); mode {
	case "payment", "setup":
		c.fail(notSimulated("mode", "Checkout in "+mode+" mode"))
	}
	if ui := c.oneOf("ui_mode", "embedded", "hosted"); ui == "embedded" {
		c.fail(notSimulated("ui_mode", "embedded Checkout"))
	}
	if !c.has("line_items") {
		c.fail(missingParam("line_items"))
	}
	c.onlyOne("line_items")
	cs.Price = s.recurringParam(c, "line_items[0][price]")
	c.must("line_items[0][quantity]") // Stripe demands it for a licensed price
	cs.Quantity = c.integer("line_items[0][quantity]", 1, 1, 1_000_000)
	c.must("success_url")
	cs.SuccessURL, cs.CancelURL = c.webURL("success_url"), c.webURL("cancel_url")
	cs.Reference, cs.Email = c.str("client_reference_id"), c.str("customer_email")
	cs.Customer, cs.HadCustomer = s.customers.get(s.customerParam(c))
	if cs.HadCustomer && cs.Email != "" {
		c.fail(invalid("customer_email", "You may only specify one of these parameters: customer, customer_email."))
	}
	cs.Metadata = c.merge("metadata", nil)
	cs.SubMetadata, cs.SubText = c.merge("subscription_data[metadata]", nil), c.str("subscription_data[description]")
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
	cust, sub := s.customerParam(c), c.str("subscription")
	status := c.oneOf("status", sessionComplete, sessionExpired, sessionOpen)
	return c.page(s.sessions.newest(func(cs *checkoutSession) bool {
		return (cust == "" || cs.Customer != nil && cs.Customer.ID == cust) &&
			(sub == "" || cs.Subscription == sub) && (status == "" || cs.Status == status)
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

// CompleteCheckout pays for a session as a person on its page would.
func (s *Sim) CompleteCheckout(sessionID string) error {
	_, err := s.complete(sessionID, "")
	return err
}

// complete pays for a session and returns where to send the browser. The e-mail
// counts only if neither customer nor session has one.
func (s *Sim) complete(sessionID, email string) (redirect string, err error) {
	err = s.change(func() error {
		redirect, err = s.payFor(sessionID, email)
		return err
	})
	return redirect, err
}

func (s *Sim) payFor(sessionID, email string) (redirect string, err error) {
	cs, ok := s.sessions.get(sessionID)
	switch {
	case !ok:
		return "", &pageError{http.StatusNotFound, "There is no checkout session " + sessionID + "."}
	case cs.Status != sessionOpen:
		return "", &pageError{http.StatusConflict, "This checkout session is " + cs.Status + ". Nothing was changed."}
	}
	if cs.Customer == nil {
		cs.Customer = s.newCustomer(s.instant)
		cs.Customer.Email = firstOf(cs.Email, email, "payer@example.com")
		s.addCustomer(cause{}, cs.Customer)
	}
	// The session's own metadata stays with the session. Only subscription_data
	// reaches the subscription, which is what a webhook handler gets to see.
	sub := &subscription{Price: cs.Price, Quantity: cs.Quantity, Metadata: cs.SubMetadata, Description: cs.SubText}
	inv, _ := s.subscribe(cause{}, cs.Customer, sub, true)
	cs.Status, cs.Subscription, cs.Invoice = sessionComplete, sub.ID, inv.ID
	s.emit(cause{}, "checkout.session.completed", renderSession(cs), nil)
	// The placeholder is how a success page learns which session to look up.
	return strings.ReplaceAll(cs.SuccessURL, "{CHECKOUT_SESSION_ID}", cs.ID), nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (cs *checkoutSession) total() int64 { return cs.Price.UnitAmount * cs.Quantity }

func (cs *checkoutSession) paymentStatus() string {
	switch {
	case cs.Status != sessionComplete:
		return "unpaid"
	case cs.total() == 0:
		return "no_payment_required"
	}
	return "paid"
}

func renderSession(cs *checkoutSession) object {
	var cust, creation, details, page any
	if cs.Customer != nil {
		cust, details = cs.Customer.ID, renderDetails(cs.Customer)
	}
	if !cs.HadCustomer {
		creation = "always"
	}
	if cs.Status == sessionOpen {
		page = cs.URL // a page that is over has no address
	}
	out := object{
		"id": cs.ID, "object": "checkout.session", "after_expiration": nil,
		"amount_subtotal": cs.total(), "amount_total": cs.total(),
		"automatic_tax": object{"enabled": false, "liability": nil, "status": nil},
		"branding_settings": object{
			"background_color": "#ffffff", "border_style": "rounded", "button_color": "#0074d4",
			"display_name": "", "font_family": "default", "icon": nil, "logo": nil,
		},
		"cancel_url": orNull(cs.CancelURL), "client_reference_id": orNull(cs.Reference), "client_secret": nil,
		"consent": nil, "consent_collection": nil, "created": cs.Created.Unix(), "currency": currency,
		"currency_conversion": nil, "custom_fields": []any{},
		"custom_text": object{
			"after_submit": nil, "shipping_address": nil, "submit": nil, "terms_of_service_acceptance": nil,
		},
		"customer": cust, "customer_creation": creation, "customer_details": details,
		"customer_email": orNull(cs.Email), "excluded_payment_method_types": []any{}, "expires_at": cs.ExpiresAt.Unix(),
		"invoice": orNull(cs.Invoice), "invoice_creation": nil, "livemode": false, "metadata": renderMetadata(cs.Metadata),
		"mode": "subscription", "name_collection": object{}, "payment_intent": nil, "payment_link": nil,
		"payment_method_configuration_details": nil, "payment_method_options": nil,
		"payment_status": cs.paymentStatus(), "phone_number_collection": object{"enabled": false},
		"recovered_from": nil, "setup_intent": nil, "shipping_address_collection": nil, "shipping_cost": nil,
		"shipping_details": nil, "shipping_options": []any{}, "status": cs.Status, "submit_type": nil,
		"subscription": orNull(cs.Subscription), "success_url": cs.SuccessURL,
		"total_details": object{"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
		"ui_mode":       "hosted", "url": page,
	}
	for name, v := range cs.Options {
		out[name] = v
	}
	return out
}

func renderDetails(c *customer) object {
	return object{
		"address": nil, "email": orNull(c.Email), "name": orNull(c.Name), "phone": orNull(c.Phone),
		"tax_exempt": "none", "tax_ids": []any{},
	}
}

func renderLineItems(cs *checkoutSession) object {
	return listOf("/v1/checkout/sessions/"+cs.ID+"/line_items", object{
		"id": cs.LineID, "object": "item", "amount_discount": 0, "amount_subtotal": cs.total(), "amount_tax": 0,
		"amount_total": cs.total(), "currency": currency, "description": cs.Price.Product.Name,
		"price": renderPrice(cs.Price), "quantity": cs.Quantity,
	})
}

// dollars is for people on the hosted pages.
func dollars(cents int64) string {
	return "$" + strconv.FormatFloat(float64(cents)/100, 'f', 2, 64)
}
