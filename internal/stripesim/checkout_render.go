package stripesim

func (cs *checkoutSession) total() int64 { return cs.Price.UnitAmount * cs.Quantity }

// dueNow is what the session itself takes: nothing at the start of a trial.
func (cs *checkoutSession) dueNow() int64 {
	if cs.TrialDays > 0 {
		return 0
	}
	return cs.total()
}

func (cs *checkoutSession) paymentStatus() string {
	switch {
	case cs.Status != sessionComplete:
		return "unpaid"
	case cs.dueNow() == 0:
		return "no_payment_required"
	}
	return "paid"
}

func renderSession(cs *checkoutSession) object {
	var cust, creation, details, page any
	if cs.Customer != nil {
		cust, details = cs.Customer.ID, renderDetails(cs.Customer)
	}
	if cs.Customer == nil && cs.Status == sessionComplete {
		details = renderDetails(&customer{Email: cs.PayerEmail})
	}
	if !cs.HadCustomer {
		creation = cs.Creation
	}
	if cs.Status == sessionOpen {
		page = cs.URL // a page that is over has no address
	}
	out := object{
		"id": cs.ID, "object": "checkout.session", "after_expiration": nil,
		"amount_subtotal": cs.dueNow(), "amount_total": cs.dueNow(),
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
		"mode": cs.Mode, "name_collection": object{}, "payment_intent": orNull(cs.Intent), "payment_link": nil,
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
