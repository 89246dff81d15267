SwaggerUIBundle({
  url: '/openapi.yaml',
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false, // it would leave the raw credential in localStorage, long after the tab is closed
  tryItOutEnabled: true,
  validatorUrl: null, // else the contract is sent to a validator on the internet
});
