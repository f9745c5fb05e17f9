CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE api_key (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	prefix VARCHAR(12) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	scope VARCHAR(5) NOT NULL, 
	created_at BIGINT NOT NULL, 
	last_used_at BIGINT, 
	revoked_at BIGINT, 
	CONSTRAINT pk_api_key PRIMARY KEY (id), 
	CONSTRAINT fk_api_key_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT uq_api_key_digest UNIQUE (digest)
);
CREATE TABLE attempt (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	event_id VARCHAR(255) NOT NULL, 
	webhook_id VARCHAR(40) NOT NULL, 
	delivery_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	"trigger" VARCHAR(10) NOT NULL, 
	attempted_at BIGINT NOT NULL, 
	method VARCHAR(5) NOT NULL, 
	uri TEXT NOT NULL, 
	status INTEGER, 
	error VARCHAR(40), 
	error_detail TEXT, 
	ok BOOLEAN NOT NULL, 
	duration_us INTEGER NOT NULL, 
	dns_us INTEGER, 
	connect_us INTEGER, 
	tls_us INTEGER, 
	wait_us INTEGER, 
	download_us INTEGER, send_us INTEGER, sends INTEGER, 
	CONSTRAINT pk_attempt PRIMARY KEY (id)
);
CREATE TABLE attempt_count (
	merchant_id INTEGER NOT NULL, 
	starts_at BIGINT NOT NULL, 
	webhook_id VARCHAR(40) NOT NULL, 
	took SMALLINT NOT NULL, 
	attempts INTEGER NOT NULL, 
	successes INTEGER NOT NULL, 
	CONSTRAINT pk_attempt_count PRIMARY KEY (merchant_id, starts_at, webhook_id, took)
)
 WITHOUT ROWID;
CREATE TABLE attempt_payload (
	attempt_id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	request_headers TEXT NOT NULL, 
	body_kind VARCHAR(6) NOT NULL, 
	request_body BLOB, 
	response_headers TEXT, 
	response_body BLOB, 
	truncated BOOLEAN NOT NULL, 
	CONSTRAINT pk_attempt_payload PRIMARY KEY (attempt_id)
);
CREATE TABLE attempt_share (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	attempt_id VARCHAR(40) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_by VARCHAR(300) NOT NULL, 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	CONSTRAINT pk_attempt_share PRIMARY KEY (id), 
	CONSTRAINT fk_attempt_share_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT uq_attempt_share_digest UNIQUE (digest)
);
CREATE TABLE "audit_entry" (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	merchant_id INTEGER, 
	actor VARCHAR(300) NOT NULL, 
	action VARCHAR(60) NOT NULL, 
	target VARCHAR(300) NOT NULL, 
	detail JSON NOT NULL, 
	address VARCHAR(45), 
	number BIGINT, 
	hash VARCHAR(64), 
	CONSTRAINT pk_audit_entry PRIMARY KEY (id), 
	CONSTRAINT uq_audit_entry_number UNIQUE (number)
);
CREATE TABLE audit_head (
	id INTEGER NOT NULL, 
	number BIGINT NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit_head PRIMARY KEY (id)
);
CREATE TABLE clean_up (
	id INTEGER NOT NULL, 
	token INTEGER NOT NULL, 
	moment BIGINT, 
	place JSON, 
	removed JSON NOT NULL, 
	work_us BIGINT NOT NULL, 
	began_at BIGINT NOT NULL, 
	worked_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	warned_at BIGINT, 
	CONSTRAINT pk_clean_up PRIMARY KEY (id)
);
CREATE TABLE counted_until (
	id INTEGER NOT NULL, 
	moment BIGINT NOT NULL, 
	CONSTRAINT pk_counted_until PRIMARY KEY (id)
);
CREATE TABLE delivery (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	event_id VARCHAR(255) NOT NULL, 
	webhook_id VARCHAR(40) NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	reason VARCHAR(200), 
	attempts INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	is_retry BOOLEAN NOT NULL, 
	"trigger" VARCHAR(10) NOT NULL, 
	next_attempt_at BIGINT, 
	created_at BIGINT NOT NULL, 
	finished_at BIGINT, object_key VARCHAR(511), hurries INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_delivery PRIMARY KEY (id)
);
CREATE TABLE event (
	merchant_id INTEGER NOT NULL, 
	id VARCHAR(255) NOT NULL, 
	type VARCHAR(255) NOT NULL, 
	object_type VARCHAR(255) NOT NULL, 
	object_id VARCHAR(255), 
	source_user_type VARCHAR(255), 
	source_user_id VARCHAR(255), 
	correlation_id VARCHAR(255), 
	occurred_at BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	fingerprint VARCHAR(64), 
	deliveries INTEGER NOT NULL, 
	schema_error TEXT, 
	is_test BOOLEAN NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (merchant_id, id)
);
CREATE TABLE event_count (
	merchant_id INTEGER NOT NULL, 
	starts_at BIGINT NOT NULL, 
	events INTEGER NOT NULL, 
	CONSTRAINT pk_event_count PRIMARY KEY (merchant_id, starts_at)
)
 WITHOUT ROWID;
CREATE TABLE event_payload (
	merchant_id INTEGER NOT NULL, 
	event_id VARCHAR(255) NOT NULL, 
	head TEXT NOT NULL, 
	data TEXT, 
	previous TEXT, 
	received_at BIGINT NOT NULL, 
	CONSTRAINT pk_event_payload PRIMARY KEY (merchant_id, event_id)
);
CREATE TABLE idempotency_key (
	merchant_id INTEGER NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	status INTEGER, 
	answer_token TEXT, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_idempotency_key PRIMARY KEY (merchant_id, "key"), 
	CONSTRAINT fk_idempotency_key_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE inspected_request (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	received_at BIGINT NOT NULL, 
	method VARCHAR(10) NOT NULL, 
	uri TEXT NOT NULL, 
	headers TEXT NOT NULL, 
	body BLOB NOT NULL, 
	size INTEGER NOT NULL, 
	webhook_id VARCHAR(40), 
	status INTEGER NOT NULL, 
	took_us BIGINT NOT NULL, 
	CONSTRAINT pk_inspected_request PRIMARY KEY (id), 
	CONSTRAINT fk_inspected_request_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE inspector (
	merchant_id INTEGER NOT NULL, 
	token VARCHAR(43) NOT NULL, 
	answer VARCHAR(10) NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_inspector PRIMARY KEY (merchant_id), 
	CONSTRAINT fk_inspector_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT uq_inspector_token UNIQUE (token)
);
CREATE TABLE installation (
	id INTEGER NOT NULL, 
	name VARCHAR(20) NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (id)
);
CREATE TABLE invitation (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	email VARCHAR(254) NOT NULL, 
	role VARCHAR(10) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_by VARCHAR(300) NOT NULL, 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	CONSTRAINT pk_invitation PRIMARY KEY (id), 
	CONSTRAINT fk_invitation_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT uq_invitation_digest UNIQUE (digest), 
	CONSTRAINT uq_invitation_merchant_id_email UNIQUE (merchant_id, email)
);
CREATE TABLE lane (
	id INTEGER NOT NULL, 
	owner VARCHAR(100), 
	token BIGINT NOT NULL, 
	leased_until BIGINT NOT NULL, 
	CONSTRAINT pk_lane PRIMARY KEY (id)
);
CREATE TABLE mail (
	id INTEGER NOT NULL, 
	to_email VARCHAR(254) NOT NULL, 
	merchant_id INTEGER, 
	subject VARCHAR(300) NOT NULL, 
	body_token TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	next_attempt_at BIGINT NOT NULL, 
	attempts INTEGER NOT NULL, 
	last_error VARCHAR(300), 
	CONSTRAINT pk_mail PRIMARY KEY (id), 
	CONSTRAINT fk_mail_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE measured_until (
	id INTEGER NOT NULL, 
	moment BIGINT NOT NULL, 
	token BIGINT NOT NULL, 
	CONSTRAINT pk_measured_until PRIMARY KEY (id)
);
CREATE TABLE membership (
	user_id INTEGER NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	role VARCHAR(10) NOT NULL, 
	CONSTRAINT pk_membership PRIMARY KEY (user_id, merchant_id), 
	CONSTRAINT fk_membership_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT fk_membership_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id)
);
CREATE TABLE merchant (
	id INTEGER NOT NULL, 
	slug VARCHAR(63) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	active BOOLEAN NOT NULL, 
	activated_at BIGINT, 
	event_days INTEGER, 
	payload_days INTEGER, 
	created_at BIGINT NOT NULL, storage_mb INTEGER, storage_told INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_merchant PRIMARY KEY (id), 
	CONSTRAINT uq_merchant_slug UNIQUE (slug)
);
CREATE TABLE notice (
	id INTEGER NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	webhook_id VARCHAR(40), 
	at BIGINT NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	message TEXT NOT NULL, 
	dismissed_at BIGINT, 
	CONSTRAINT pk_notice PRIMARY KEY (id), 
	CONSTRAINT fk_notice_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE notice_choice (
	user_id INTEGER NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	kinds JSON NOT NULL, 
	CONSTRAINT pk_notice_choice PRIMARY KEY (user_id, merchant_id), 
	CONSTRAINT fk_notice_choice_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT fk_notice_choice_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id)
);
CREATE TABLE operations_entry (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	message TEXT NOT NULL, 
	CONSTRAINT pk_operations_entry PRIMARY KEY (id)
);
CREATE TABLE "own_event_type" (
	merchant_id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	description TEXT NOT NULL, 
	schema JSON, 
	example TEXT, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_own_event_type PRIMARY KEY (merchant_id, name), 
	CONSTRAINT fk_own_event_type_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE passkey (
	id VARCHAR(40) NOT NULL, 
	user_id INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	credential BLOB NOT NULL, 
	public_key BLOB NOT NULL, 
	sign_count BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	used_at BIGINT, 
	CONSTRAINT pk_passkey PRIMARY KEY (id), 
	CONSTRAINT fk_passkey_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id), 
	CONSTRAINT uq_passkey_credential UNIQUE (credential)
);
CREATE TABLE password_reset (
	digest VARCHAR(64) NOT NULL, 
	user_id INTEGER NOT NULL, 
	expires_at BIGINT NOT NULL, 
	CONSTRAINT pk_password_reset PRIMARY KEY (digest), 
	CONSTRAINT fk_password_reset_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id)
);
CREATE TABLE recovery (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	webhook_id VARCHAR(40), 
	action VARCHAR(10) NOT NULL, 
	states JSON NOT NULL, 
	filters JSON NOT NULL, 
	since BIGINT, 
	"before" BIGINT NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	total INTEGER, 
	done INTEGER NOT NULL, 
	place JSON, 
	token INTEGER NOT NULL, 
	created_by VARCHAR(300) NOT NULL, 
	created_at BIGINT NOT NULL, 
	worked_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	CONSTRAINT pk_recovery PRIMARY KEY (id), 
	CONSTRAINT fk_recovery_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE TABLE recovery_code (
	user_id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_recovery_code PRIMARY KEY (user_id, digest), 
	CONSTRAINT fk_recovery_code_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id)
);
CREATE TABLE saved_filter (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	log VARCHAR(10) NOT NULL, 
	name VARCHAR(60) NOT NULL, 
	filters JSON NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_saved_filter PRIMARY KEY (id), 
	CONSTRAINT fk_saved_filter_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id), 
	CONSTRAINT fk_saved_filter_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id)
);
CREATE TABLE sealed_word (
	id INTEGER NOT NULL, 
	word_token TEXT NOT NULL, 
	CONSTRAINT pk_sealed_word PRIMARY KEY (id)
);
CREATE TABLE stored_bytes (
	merchant_id INTEGER NOT NULL, 
	starts_at BIGINT NOT NULL, 
	logs BIGINT NOT NULL, 
	payloads BIGINT NOT NULL, 
	CONSTRAINT pk_stored_bytes PRIMARY KEY (merchant_id, starts_at)
)
 WITHOUT ROWID;
CREATE TABLE "user_account" (
	id INTEGER NOT NULL, 
	email VARCHAR(254) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	password_hash VARCHAR(200) NOT NULL, 
	staff_role VARCHAR(10), 
	disabled_at BIGINT, 
	created_at BIGINT NOT NULL, totp_token TEXT, totp_step BIGINT, passkey_moment BIGINT, 
	CONSTRAINT pk_user_account PRIMARY KEY (id), 
	CONSTRAINT uq_user_account_email UNIQUE (email)
);
CREATE TABLE user_session (
	id VARCHAR(40) NOT NULL, 
	user_id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at BIGINT NOT NULL, 
	used_at BIGINT NOT NULL, 
	address VARCHAR(45) NOT NULL, 
	agent VARCHAR(300) NOT NULL, 
	CONSTRAINT pk_user_session PRIMARY KEY (id), 
	CONSTRAINT fk_user_session_user_id_user_account FOREIGN KEY(user_id) REFERENCES user_account (id), 
	CONSTRAINT uq_user_session_digest UNIQUE (digest)
);
CREATE TABLE "webhook" (
	id VARCHAR(40) NOT NULL, 
	merchant_id INTEGER NOT NULL, 
	lane INTEGER NOT NULL, 
	description VARCHAR(500) NOT NULL, 
	url VARCHAR(2048) NOT NULL, 
	method VARCHAR(5) NOT NULL, 
	query_params JSON NOT NULL, 
	headers JSON NOT NULL, 
	events JSON NOT NULL, 
	include_object_record BOOLEAN NOT NULL, 
	only_sources JSON NOT NULL, 
	except_sources JSON NOT NULL, 
	body_template TEXT, 
	retry_schedule JSON, 
	timeout_seconds INTEGER, 
	secret_token TEXT NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	disabled_at BIGINT, 
	disabled_reason VARCHAR(500), 
	failures INTEGER NOT NULL, 
	failing_since BIGINT, 
	held_at BIGINT, 
	next_probe_at BIGINT, 
	version INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	deleted_at BIGINT, 
	max_in_flight INTEGER, 
	rate_per_second INTEGER, 
	ordered BOOLEAN DEFAULT 0 NOT NULL, 
	sign_ed25519 BOOLEAN DEFAULT 0 NOT NULL, 
	auth JSON, 
	certificate_ends_at BIGINT, 
	certificate_checked_at BIGINT, 
	client_certificate_ends_at BIGINT, 
	away INTEGER DEFAULT '0' NOT NULL, 
	unreachable BOOLEAN DEFAULT 0 NOT NULL, 
	catch_up_from BIGINT, 
	old_secrets JSON DEFAULT '[]' NOT NULL, 
	CONSTRAINT pk_webhook PRIMARY KEY (id), 
	CONSTRAINT fk_webhook_merchant_id_merchant FOREIGN KEY(merchant_id) REFERENCES merchant (id)
);
CREATE INDEX ix_api_key_merchant_id ON api_key (merchant_id);
CREATE INDEX ix_attempt_count_webhook ON attempt_count (merchant_id, webhook_id, starts_at);
CREATE INDEX ix_attempt_delivery ON attempt (delivery_id, id);
CREATE INDEX ix_attempt_event ON attempt (merchant_id, event_id, id);
CREATE INDEX ix_attempt_failed ON attempt (merchant_id, ok, id) WHERE ok = 0;
CREATE INDEX ix_attempt_merchant ON attempt (merchant_id, id);
CREATE INDEX ix_attempt_payload_merchant ON attempt_payload (merchant_id, attempt_id);
CREATE INDEX ix_attempt_share_attempt ON attempt_share (merchant_id, attempt_id);
CREATE INDEX ix_attempt_webhook ON attempt (webhook_id, id);
CREATE INDEX ix_audit_entry_action ON audit_entry (action, at, id);
CREATE INDEX ix_audit_entry_merchant ON audit_entry (merchant_id, at, id);
CREATE INDEX ix_audit_entry_merchant_action ON audit_entry (merchant_id, action, at, id);
CREATE INDEX ix_audit_entry_read ON audit_entry (at, id);
CREATE INDEX ix_audit_entry_target ON audit_entry (target, id);
CREATE INDEX ix_delivery_created ON delivery (created_at, id);
CREATE INDEX ix_delivery_due ON delivery (webhook_id, is_retry, next_attempt_at) WHERE state = 'pending';
CREATE INDEX ix_delivery_event ON delivery (merchant_id, event_id);
CREATE INDEX ix_delivery_failed ON delivery (webhook_id, finished_at, id) WHERE state = 'failed';
CREATE INDEX ix_delivery_object ON delivery (webhook_id, object_key, created_at) WHERE state = 'pending' AND object_key IS NOT NULL;
CREATE INDEX ix_delivery_webhook ON delivery (webhook_id, created_at);
CREATE INDEX ix_event_correlation ON event (merchant_id, correlation_id, received_at, id) WHERE correlation_id IS NOT NULL;
CREATE INDEX ix_event_merchant_received ON event (merchant_id, received_at, id);
CREATE INDEX ix_event_object ON event (merchant_id, object_id, received_at, id, object_type);
CREATE INDEX ix_event_payload_merchant ON event_payload (merchant_id, received_at);
CREATE INDEX ix_event_payload_received ON event_payload (received_at, merchant_id, event_id);
CREATE INDEX ix_event_received ON event (received_at, merchant_id, id);
CREATE INDEX ix_event_type ON event (merchant_id, type, received_at, id);
CREATE INDEX ix_idempotency_key_created_at ON idempotency_key (created_at);
CREATE INDEX ix_inspected_request_newest ON inspected_request (merchant_id, id);
CREATE INDEX ix_mail_next_attempt_at ON mail (next_attempt_at);
CREATE INDEX ix_membership_merchant_id ON membership (merchant_id);
CREATE INDEX ix_notice_merchant ON notice (merchant_id, dismissed_at, at);
CREATE INDEX ix_operations_entry_at ON operations_entry (at);
CREATE INDEX ix_passkey_user_id ON passkey (user_id);
CREATE INDEX ix_password_reset_expires_at ON password_reset (expires_at);
CREATE INDEX ix_password_reset_user_id ON password_reset (user_id);
CREATE INDEX ix_recovery_merchant ON recovery (merchant_id, id);
CREATE INDEX ix_recovery_running ON recovery (worked_at) WHERE state = 'running';
CREATE UNIQUE INDEX ix_saved_filter_name ON saved_filter (user_id, merchant_id, log, name);
CREATE INDEX ix_stored_bytes_starts_at ON stored_bytes (starts_at);
CREATE INDEX ix_user_session_created_at ON user_session (created_at);
CREATE INDEX ix_user_session_user_id ON user_session (user_id);
CREATE INDEX ix_webhook_lane ON webhook (lane);
CREATE INDEX ix_webhook_merchant ON webhook (merchant_id, created_at);
INSERT INTO alembic_version (version_num) VALUES ('0032');
INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
