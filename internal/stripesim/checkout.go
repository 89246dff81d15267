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

	sessionLifetime = 24 * time.Hour
)

type checkoutSession struct {
	id      string
	lineID  string
	url     string
	created time.Time

	price        *price
	quantity     int64
	successURL   string
	cancelURL    string
	reference    string
	email        string
	metadata     map[string]string
	subMetadata  map[string]string
	subText      string
	options      object // presentation options, echoed
	expiresAt    time.Time
	hadCustomer  bool
	customer     *customer
	status       string
	subscription string
	invoice      string
}

func (s *Sim) createSession(c *call) (object, *apiError) {
	cs := &checkoutSession{created: c.now, status: sessionOpen}
	s.readSession(c, cs)
	if c.err != nil {
		return nil, c.err
	}
	cs.id, cs.lineID = s.ids.next("cs_test_a1", 56), s.ids.next("li_1", 23)
	cs.url = s.baseURL + "/c/pay/" + cs.id
	s.sessions.add(cs.id, cs)
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
	cs.price = s.priceParam(c, "line_items[0][price]")
	c.must("line_items[0][quantity]") // Stripe demands it for a licensed price
	cs.quantity = c.integer("line_items[0][quantity]", 1, 1, 1_000_000)
	c.must("success_url")
	cs.successURL, cs.cancelURL = c.webURL("success_url"), c.webURL("cancel_url")
	cs.reference, cs.email = c.str("client_reference_id"), c.str("customer_email")
	cs.customer, cs.hadCustomer = s.customers.get(s.customerParam(c, "customer"))
	if cs.hadCustomer && cs.email != "" {
		c.fail(invalid("customer_email", "You may only specify one of these parameters: customer, customer_email."))
	}
	cs.metadata = c.merge("metadata", nil)
	cs.subMetadata, cs.subText = c.merge("subscription_data[metadata]", nil), c.str("subscription_data[description]")
	soonest, latest := c.now.Add(30*time.Minute).Unix(), c.now.Add(sessionLifetime).Unix()
	cs.expiresAt = time.Unix(c.integer("expires_at", latest, soonest, latest), 0).UTC()
	cs.options = readOptions(c)
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
	cust, sub := s.customerParam(c, "customer"), c.str("subscription")
	status := c.oneOf("status", sessionComplete, sessionExpired, sessionOpen)
	return c.page(s.sessions.newest(func(cs *checkoutSession) bool {
		return (cust == "" || cs.customer != nil && cs.customer.id == cust) &&
			(sub == "" || cs.subscription == sub) && (status == "" || cs.status == status)
	}, renderSession))
}

func (s *Sim) expireSessionCall(c *call) (object, *apiError) {
	cs, ok := s.sessions.get(c.id)
	switch {
	case !ok:
		return nil, notFound("checkout.session", c.id)
	case cs.status != sessionOpen:
		return nil, invalid("session", `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of `+cs.status+".")
	}
	s.expireSession(c.cause, cs)
	return renderSession(cs), nil
}

func (s *Sim) expireSession(by cause, cs *checkoutSession) {
	cs.status = sessionExpired
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
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC()
	s.advance(now)
	cs, ok := s.sessions.get(sessionID)
	switch {
	case !ok:
		return "", &pageError{http.StatusNotFound, "There is no checkout session " + sessionID + "."}
	case cs.status != sessionOpen:
		return "", &pageError{http.StatusConflict, "This checkout session is " + cs.status + ". Nothing was changed."}
	}
	if cs.customer == nil {
		cs.customer = s.newCustomer(now)
		cs.customer.email = firstOf(cs.email, email, "payer@example.com")
		s.addCustomer(cause{}, cs.customer)
	}
	sub := &subscription{price: cs.price, quantity: cs.quantity, metadata: cs.subMetadata, description: cs.subText}
	inv := s.subscribe(cs.customer, sub, now)
	cs.status, cs.subscription, cs.invoice = sessionComplete, sub.id, inv.id
	s.emit(cause{}, "checkout.session.completed", renderSession(cs), nil)
	return strings.ReplaceAll(cs.successURL, "{CHECKOUT_SESSION_ID}", cs.id), nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (cs *checkoutSession) total() int64 { return cs.price.unitAmount * cs.quantity }

func (cs *checkoutSession) paymentStatus() string {
	switch {
	case cs.status != sessionComplete:
		return "unpaid"
	case cs.total() == 0:
		return "no_payment_required"
	}
	return "paid"
}

func renderSession(cs *checkoutSession) object {
	var cust, creation, details, page any
	if cs.customer != nil {
		cust, details = cs.customer.id, renderDetails(cs.customer)
	}
	if !cs.hadCustomer {
		creation = "always"
	}
	if cs.status == sessionOpen {
		page = cs.url // a page that is over has no address
	}
	out := object{
		"id": cs.id, "object": "checkout.session", "after_expiration": nil,
		"amount_subtotal": cs.total(), "amount_total": cs.total(),
		"automatic_tax": object{"enabled": false, "liability": nil, "status": nil},
		"branding_settings": object{
			"background_color": "#ffffff", "border_style": "rounded", "button_color": "#0074d4",
			"display_name": "", "font_family": "default", "icon": nil, "logo": nil,
		},
		"cancel_url": orNull(cs.cancelURL), "client_reference_id": orNull(cs.reference), "client_secret": nil,
		"consent": nil, "consent_collection": nil, "created": cs.created.Unix(), "currency": currency,
		"currency_conversion": nil, "custom_fields": []any{},
		"custom_text": object{
			"after_submit": nil, "shipping_address": nil, "submit": nil, "terms_of_service_acceptance": nil,
		},
		"customer": cust, "customer_creation": creation, "customer_details": details,
		"customer_email": orNull(cs.email), "excluded_payment_method_types": []any{}, "expires_at": cs.expiresAt.Unix(),
		"invoice": orNull(cs.invoice), "invoice_creation": nil, "livemode": false, "metadata": renderMetadata(cs.metadata),
		"mode": "subscription", "name_collection": object{}, "payment_intent": nil, "payment_link": nil,
		"payment_method_configuration_details": nil, "payment_method_options": nil,
		"payment_status": cs.paymentStatus(), "phone_number_collection": object{"enabled": false},
		"recovered_from": nil, "setup_intent": nil, "shipping_address_collection": nil, "shipping_cost": nil,
		"shipping_details": nil, "shipping_options": []any{}, "status": cs.status, "submit_type": nil,
		"subscription": orNull(cs.subscription), "success_url": cs.successURL,
		"total_details": object{"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
		"ui_mode":       "hosted", "url": page,
	}
	for name, v := range cs.options {
		out[name] = v
	}
	return out
}

func renderDetails(c *customer) object {
	return object{
		"address": nil, "email": orNull(c.email), "name": orNull(c.name), "phone": orNull(c.phone),
		"tax_exempt": "none", "tax_ids": []any{},
	}
}

func renderLineItems(cs *checkoutSession) object {
	return listOf("/v1/checkout/sessions/"+cs.id+"/line_items", object{
		"id": cs.lineID, "object": "item", "amount_discount": 0, "amount_subtotal": cs.total(), "amount_tax": 0,
		"amount_total": cs.total(), "currency": currency, "description": cs.price.product.name,
		"price": renderPrice(cs.price), "quantity": cs.quantity,
	})
}

// dollars is for people on the hosted pages.
func dollars(cents int64) string {
	return "$" + strconv.FormatFloat(float64(cents)/100, 'f', 2, 64)
}
