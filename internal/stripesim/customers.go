package stripesim

import "time"

type customer struct {
	ID          string
	Created     time.Time
	Email       string
	Name        string
	Phone       string
	Description string
	Metadata    map[string]string

	InvoicePrefix string // invoices are numbered per customer
	Invoices      int
	Currency      string // set by the first subscription
	Card          Card
	Balance       int64 // negative is what the customer is owed
	Deleted       bool
}

func (cust *customer) key() string { return cust.ID }

func (s *Sim) createCustomer(c *call) (object, *apiError) {
	cust := s.newCustomer(c.now)
	cust.apply(c.params)
	if c.err != nil {
		return nil, c.err
	}
	s.addCustomer(c.cause, cust)
	return renderCustomer(cust), nil
}

func (s *Sim) newCustomer(now time.Time) *customer {
	return &customer{ID: s.ids.next("cus_", 14), Created: now, InvoicePrefix: s.ids.next("", 8), Card: Card{Outcome: Succeeds}}
}

func (s *Sim) addCustomer(by cause, cust *customer) {
	s.customers.add(cust)
	s.emit(by, "customer.created", renderCustomer(cust), nil)
}

func (s *Sim) updateCustomer(c *call) (object, *apiError) {
	cust, ok := s.customers.get(c.id)
	if !ok || cust.Deleted {
		return nil, notFound("customer", c.id)
	}
	next := *cust
	next.apply(c.params)
	if c.err != nil {
		return nil, c.err
	}
	// Rendered before and after, the event names exactly what its reader can see change.
	before := renderCustomer(cust)
	*cust = next
	s.emitUpdate(c.cause, "customer.updated", before, renderCustomer(cust))
	return renderCustomer(cust), nil
}

func (cust *customer) apply(p *params) {
	for name, field := range map[string]*string{
		"email": &cust.Email, "name": &cust.Name, "phone": &cust.Phone, "description": &cust.Description,
	} {
		if p.has(name) {
			*field = p.str(name)
		}
	}
	cust.Metadata = p.merge("metadata", cust.Metadata)
}

func (s *Sim) getCustomer(c *call) (object, *apiError) {
	cust, ok := s.customers.get(c.id)
	if !ok {
		return nil, notFound("customer", c.id)
	}
	return renderCustomer(cust), nil
}

// deleteCustomer ends all that the customer has. Of itself only its id is left.
func (s *Sim) deleteCustomer(c *call) (object, *apiError) {
	cust, ok := s.customers.get(c.id)
	if !ok || cust.Deleted {
		return nil, notFound("customer", c.id)
	}
	for _, sub := range s.subscriptions.items {
		if sub.Customer == cust.ID && !sub.over() {
			sub.EndReason = "cancellation_requested"
			s.cancelNow(c.cause, sub)
		}
	}
	for _, cs := range s.sessions.items {
		if cs.Customer == cust && cs.Status == sessionOpen {
			s.expireSession(c.cause, cs)
		}
	}
	s.emit(c.cause, "customer.deleted", renderCustomer(cust), nil)
	cust.Deleted = true
	return renderCustomer(cust), nil
}

func (s *Sim) listCustomers(c *call) (object, *apiError) {
	email, created := c.str("email"), c.created()
	return c.page(s.customers.newest(func(cust *customer) bool {
		return !cust.Deleted && (email == "" || cust.Email == email) && created.has(cust.Created)
	}, renderCustomer))
}

// customerFilter reads whose objects a list is narrowed to. Those of a deleted
// customer are still there.
func (s *Sim) customerFilter(c *call) string {
	id := c.str("customer")
	if _, ok := s.customers.get(id); id != "" && !ok {
		c.fail(noSuch("customer", id, "customer"))
	}
	return id
}

// customerParam reads the customer parameter, which must name one if it is given.
func (s *Sim) customerParam(c *call) string {
	id := c.str("customer")
	if cust, ok := s.customers.get(id); id != "" && (!ok || cust.Deleted) {
		c.fail(noSuch("customer", id, "customer"))
	}
	return id
}

func renderCustomer(c *customer) object {
	if c.Deleted {
		return object{"id": c.ID, "object": "customer", "deleted": true}
	}
	return object{
		"id": c.ID, "object": "customer", "address": nil, "balance": c.Balance, "created": c.Created.Unix(),
		"currency": orNull(c.Currency), "default_source": nil, "delinquent": false, "description": orNull(c.Description),
		"discount": nil, "email": orNull(c.Email), "invoice_prefix": c.InvoicePrefix,
		"invoice_settings": object{
			"custom_fields": nil, "default_payment_method": nil, "footer": nil, "rendering_options": nil,
		},
		"livemode": false, "metadata": renderMetadata(c.Metadata), "name": orNull(c.Name),
		"next_invoice_sequence": c.Invoices + 1, "phone": orNull(c.Phone), "preferred_locales": []any{},
		"shipping": nil, "tax_exempt": "none", "test_clock": nil,
	}
}
