package stripesim

import (
	"net/http"
	"time"
)

const (
	flowUpdate  = "subscription_update_confirm"
	flowCancel  = "subscription_cancel"
	flowPayment = "payment_method_update"
)

type portalSession struct {
	ID        string
	URL       string
	Config    string
	Customer  *customer
	Created   time.Time
	ReturnURL string
	Locale    string
	Flow      *portalFlow // nil: the whole portal
}

func (ps *portalSession) key() string { return ps.ID }

// portalFlow is a portal session narrowed to one question.
type portalFlow struct {
	Kind         string
	Subscription *subscription
	ItemID       string
	Price        *price
	Quantity     int64
	After        string // after_completion type
	AfterURL     string
	Done         bool // a flow can be confirmed once
}

func (s *Sim) createPortal(c *call) (object, *apiError) {
	ps := &portalSession{Created: c.now, ReturnURL: c.webURL("return_url"), Locale: c.str("locale")}
	ps.Customer, _ = s.customers.get(s.customerParam(c))
	config := s.configParam(c)
	if c.has("flow_data") && c.err == nil {
		ps.Flow = s.readFlow(c, ps.Customer)
		config.allow(c, ps.Flow)
	}
	if c.err != nil {
		return nil, c.err
	}
	ps.ID, ps.Config, ps.ReturnURL = s.ids.next("bps_1", 23), config.ID, firstOf(ps.ReturnURL, config.ReturnURL)
	ps.URL = s.baseURL + "/p/session/" + ps.ID
	s.portals.add(ps)
	return s.renderPortal(ps), nil
}

// configParam reads the configuration, which is the account's default unless it
// is named.
func (s *Sim) configParam(c *call) *portalConfig {
	id := c.str("configuration")
	if id == "" {
		return s.configs.items[0]
	}
	pc, ok := s.configs.get(id)
	if !ok {
		c.fail(noSuch("configuration", id, "configuration"))
		return s.configs.items[0]
	}
	return pc
}

// allow refuses a flow for what the configuration does not let customers do.
func (pc *portalConfig) allow(c *call, f *portalFlow) {
	switch {
	case c.err != nil:
	case f.Kind == flowUpdate && !pc.offers(f.Price):
		c.fail(invalid("flow_data[subscription_update_confirm]", "This subscription cannot be updated because the subscription update feature in your portal configuration is disabled, or does not have this price."))
	case f.Kind == flowCancel && !pc.CanCancel:
		c.fail(invalid("flow_data[subscription_cancel]", "The subscription cancel feature in your portal configuration is disabled."))
	case f.Kind == flowPayment && !pc.CanChangeCard:
		c.fail(invalid("flow_data[type]", "The payment method update feature in your portal configuration is disabled."))
	}
}

func (s *Sim) readFlow(c *call, cust *customer) *portalFlow {
	const after = "flow_data[after_completion]"
	c.must("flow_data[type]")
	f := &portalFlow{Kind: c.oneOf("flow_data[type]", flowUpdate, flowCancel, flowPayment, "subscription_update"), After: "portal_homepage"}
	switch f.Kind {
	case flowUpdate:
		s.readFlowUpdate(c, cust, f)
	case flowCancel:
		f.Subscription = s.flowSubscription(c, cust, "flow_data[subscription_cancel][subscription]")
	case "subscription_update":
		c.fail(notSimulated("flow_data[type]", "the portal flow subscription_update"))
	}
	for _, kind := range []string{flowUpdate, flowCancel} {
		if kind != f.Kind && c.has("flow_data["+kind+"]") {
			c.fail(invalid("flow_data["+kind+"]", "flow_data["+kind+"] does not fit flow_data[type] "+f.Kind+"."))
		}
	}
	switch v := c.oneOf(after+"[type]", "hosted_confirmation", "portal_homepage", "redirect"); v {
	case "":
	case "redirect":
		c.must(after + "[redirect][return_url]")
		f.After, f.AfterURL = v, c.webURL(after+"[redirect][return_url]")
	default:
		f.After = v
	}
	return f
}

func (s *Sim) readFlowUpdate(c *call, cust *customer, f *portalFlow) {
	const confirm = "flow_data[subscription_update_confirm]"
	f.Subscription = s.flowSubscription(c, cust, confirm+"[subscription]")
	c.onlyOne(confirm + "[items]")
	f.ItemID = c.must(confirm + "[items][0][id]")
	if c.err != nil {
		return
	}
	// The item is named so that a confirmation cannot touch another one.
	if f.ItemID != f.Subscription.ItemID {
		c.fail(noSuch("subscription_item", f.ItemID, confirm+"[items][0][id]"))
	}
	if f.Subscription.Schedule != "" {
		c.fail(notSimulated(confirm, "a second change, which Stripe stacks onto the one that is scheduled"))
	}
	f.Price = f.Subscription.Price
	if c.has(confirm + "[items][0][price]") {
		f.Price = s.recurringParam(c, confirm+"[items][0][price]")
	}
	f.Quantity = c.integer(confirm+"[items][0][quantity]", f.Subscription.Quantity, 1, 1_000_000)
}

// flowSubscription reads a subscription that must be this customer's and alive.
func (s *Sim) flowSubscription(c *call, cust *customer, name string) *subscription {
	sub, ok := s.subscriptions.get(c.must(name))
	switch {
	case !ok || sub.Customer != cust.ID:
		c.fail(noSuch("subscription", c.str(name), name))
	case sub.over():
		c.fail(invalid(name, "The subscription "+sub.ID+" is canceled and cannot be changed in the portal."))
	}
	return sub
}

// portalAction finds the session and the subscription behind a button of the
// whole portal and runs the change.
func (s *Sim) portalAction(sessionID, subID string, change func(*portalSession, *subscription) error) error {
	return s.change(func() error {
		ps, ok := s.portals.get(sessionID)
		switch {
		case !ok:
			return &pageError{http.StatusNotFound, "There is no portal session " + sessionID + "."}
		case ps.Flow != nil:
			return &pageError{http.StatusConflict, "This portal session is for one change only. Confirm it or go back."}
		}
		sub, err := s.living(subID)
		if err != nil {
			return err
		}
		if sub.Customer != ps.Customer.ID { // to one customer, those of the others do not exist
			return &pageError{http.StatusNotFound, "There is no subscription " + subID + "."}
		}
		return change(ps, sub)
	})
}

// changePlan moves a subscription to another price, at once or at the end of the
// period, as the configuration says. What is not paid at once is not changed.
func (s *Sim) changePlan(ps *portalSession, sub *subscription, to *price, quantity int64) error {
	next := *sub
	next.Price, next.Quantity = to, quantity
	config, _ := s.configs.get(ps.Config)
	if !config.offers(to) {
		return &pageError{http.StatusForbidden, "The portal does not offer this plan."}
	}
	if err := free(sub); err != nil {
		return err
	}
	if config.putsOff(sub, to, quantity) {
		s.scheduleChange(sub, to, quantity)
		return nil
	}
	how := planChange{proration: config.Proration, payment: errorIfIncomplete, at: s.instant}
	if failure := s.changeSubscription(cause{}, sub, next, how); failure != nil {
		return &pageError{http.StatusPaymentRequired, failure.message + " Nothing was changed."}
	}
	return nil
}

// confirmFlow does what the session asks for, once, and returns where to go next.
func (s *Sim) confirmFlow(sessionID string, card *Card) (redirect string, err error) {
	err = s.change(func() error {
		redirect, err = s.confirm(sessionID, card)
		return err
	})
	return redirect, err
}

func (s *Sim) confirm(sessionID string, card *Card) (redirect string, err error) {
	ps, ok := s.portals.get(sessionID)
	switch {
	case !ok:
		return "", &pageError{http.StatusNotFound, "There is no portal session " + sessionID + "."}
	case ps.Flow == nil:
		return "", &pageError{http.StatusConflict, "This portal session has nothing to confirm."}
	case ps.Flow.Done:
		return "", &pageError{http.StatusConflict, "This change was confirmed before. Nothing was changed."}
	}
	f := ps.Flow
	// The subscription may have ended since the link was made.
	if f.Subscription != nil {
		if _, err := s.living(f.Subscription.ID); err != nil {
			return "", err
		}
	}
	switch f.Kind {
	case flowUpdate:
		if err := s.changePlan(ps, f.Subscription, f.Price, f.Quantity); err != nil {
			return "", err
		}
	case flowCancel:
		if err := free(f.Subscription); err != nil {
			return "", err
		}
		s.setCancelAtPeriodEnd(f.Subscription, true)
	case flowPayment:
		if card != nil {
			ps.Customer.Card = *card
		}
	}
	f.Done = true
	return firstOf(f.AfterURL, ps.ReturnURL), nil
}

func (s *Sim) renderPortal(ps *portalSession) object {
	var flow any
	if ps.Flow != nil {
		flow = renderFlow(ps.Flow)
	}
	return object{
		"id": ps.ID, "object": "billing_portal.session", "configuration": ps.Config, "created": ps.Created.Unix(),
		"customer": ps.Customer.ID, "flow": flow, "livemode": false, "locale": orNull(ps.Locale), "on_behalf_of": nil,
		"return_url": orNull(ps.ReturnURL), "url": ps.URL,
	}
}

func renderFlow(f *portalFlow) object {
	var redirect, cancel, confirm any
	if f.AfterURL != "" {
		redirect = object{"return_url": f.AfterURL}
	}
	switch f.Kind {
	case flowCancel:
		cancel = object{"subscription": f.Subscription.ID, "retention": nil}
	case flowUpdate:
		confirm = object{
			"subscription": f.Subscription.ID, "discounts": nil,
			"items": []object{{"id": f.ItemID, "price": f.Price.ID, "quantity": f.Quantity}},
		}
	}
	return object{
		"type":                f.Kind,
		"after_completion":    object{"type": f.After, "redirect": redirect, "hosted_confirmation": nil},
		"subscription_cancel": cancel, "subscription_update": nil, "subscription_update_confirm": confirm,
	}
}
