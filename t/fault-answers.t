# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Answers that are not what they should be: unknown members and types, problems without a type or a status,
# chains out of order, incomplete, of another key, of other names, not certificates at all, too large,
# cut; relative URLs, redirects, directories of all kinds.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Socket::SSL::Utils ();
use JSON::PP ();
use MIME::Base64 ();

use Autocert::Client qw(handshake make_ca issue_pair cert_info);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::FaultProxy;
use Autocert::Faults qw(faulty_server check_faults heal_faults);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit scratch run_program);

use constant {
    OBTAIN_SECONDS => 60,
    MEGABYTE       => 1024 * 1024,
};

my $own_ca = make_ca('a CA of the test');
my $own_ca_file = spit(scratch() . '/own-ca.pem', $own_ca->{pem});
my $own_ca_key = spit(scratch() . '/own-ca.key', IO::Socket::SSL::Utils::PEM_key2string($own_ca->{key}), 0600);
my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0, PEBBLE_CHAIN_LENGTH => 2 })->start;
my $root_file = $pebble->root;
my $other_pair = issue_pair($own_ca, ['key.example.test']);

# --- What is done to answers ---

# Change the list of certificates.
sub chain
{
    my ($change) = @_;
    return sub {
        my ($answer) = @_;
        my @pem = $answer->{body} =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/sg;
        $answer->{body} = join '', $change->(@pem);
    };
}

# Keep the request for a certificate, and issue one by it that has these names.
sub keep_csr
{
    my (undef, $request) = @_;
    spit(scratch() . "/$request->{name}.csr", MIME::Base64::decode_base64url($request->{payload}{csr}));
    return;
}

sub issue_for
{
    my (@names) = @_;
    return sub {
        my ($answer, $request) = @_;
        my $stem = scratch() . "/$request->{name}";
        my $san = join ',', map { 'DNS:' . ($_ eq 'itself' ? $request->{name} : $_) } @names;
        spit("$stem.ext", "subjectAltName=$san\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n");
        run_program(['openssl', 'x509', '-req', '-in', "$stem.csr", '-inform', 'DER', '-days', '30',
            '-CA', $own_ca_file, '-CAkey', $own_ca_key, '-set_serial', int(1 + rand 1e9),
            '-extfile', "$stem.ext", '-out', "$stem.pem"]);
        $answer->{body} = (slurp("$stem.pem") // '') . $own_ca->{pem};
    };
}

sub add_strange
{
    my ($json) = @_;
    $json->{'x-strange'} = { list => [1, [2], undef] };
    $json->{x_null} = undef;
    return;
}

sub add_challenges
{
    my ($authz) = @_;
    add_strange($authz);
    unshift @{ $authz->{challenges} }, { type => 'dns-persist-01', url => 'https://localhost/x',
        'issuer-domain-names' => ['ca.example'], status => 'pending' },
        { type => 'x' x 300, url => 'https://localhost/x', token => '../../etc/passwd', status => 'pending' },
        { type => ['http-01'], url => 7, token => {}, status => 'pending' }, 'text', undef, {};
    return;
}

sub make_relative
{
    my ($answer) = @_;
    for my $header (@{ $answer->{headers} }) {
        $header->[1] =~ s{^https://[^/]+}{} if $header->[0] =~ /^Location$/i;
    }
    return;
}

my %edits = (
    strange => \&add_strange,
    challenges => \&add_challenges,
    relative => \&make_relative,
    csr => \&keep_csr,
    reversed => chain(sub { reverse @_ }),
    doubled => chain(sub { map { ($_, $_) } @_ }),
    rooted => chain(sub { (@_, slurp($root_file)) }),
    gap => chain(sub { @_[0, 2 .. $#_] }),
    headless => chain(sub { @_[1 .. $#_] }),
    other_key => chain(sub { ($other_pair->{pem}, $own_ca->{pem}) }),
    with_key => chain(sub { (@_, $other_pair->{key_pem}) }),
    junk => sub { $_[0]{body} = "no certificate here\n" },
    many => chain(sub { (@_, ($own_ca->{pem}) x 20) }),
    half => sub { $_[0]{body} = substr $_[0]{body}, 0, length($_[0]{body}) / 4 },
    large => sub { $_[0]{body} = 'x' x (10 * MEGABYTE) },
    other_names => issue_for('other.example.test'),
    more_names => issue_for('itself', 'www.example.test'),
    no_meta => sub { delete $_[0]{meta} },
    null_meta => sub { $_[0]{meta} = undef },
    empty_meta => sub { $_[0]{meta} = {} },
    list_meta => sub { $_[0]{meta} = ['x'] },
    random_member => sub { $_[0]{'jDCT6-Ae1PY'} = 'https://community.example/t/x'; $_[0]{newAuthz} = {} },
    no_new_order => sub { delete $_[0]{newOrder} },
    plain_urls => sub { s/^https/http/ for values %{ $_[0] } },
);

sub problem
{
    my ($status, $type, %more) = @_;
    my $answer = Autocert::FaultProxy::problem($status, 'x', %more);
    if (defined $type) {
        $answer->{json}{type} = $type;
    }
    else {
        delete $answer->{json}{type};
    }
    return $answer;
}

my $acme = 'urn:ietf:params:acme:error:';
my $no_status = problem(401, "${acme}unauthorized", status => undef, detail => 'go away');
delete $no_status->{json}{status};
$no_status->{headers}{'Content-Type'} = 'application/json';

sub refused_order
{
    my ($answer) = @_;
    return (rules => [{ class => 'newOrder', answer => $answer }], orders => 0, most => { newOrder => 1 });
}

sub changed_chain
{
    my ($edit, @more) = @_;
    return (rules => [{ class => 'cert', edit => $edit }, @more], most => { finalize => 1, cert => 1 });
}

my @keeps_csr = ({ class => 'finalize', edit => 'csr' });
my @faults = (
    { is => 'F10', what => 'members and challenges that nobody knows', rules => [
        { class => 'authz', json => 'challenges' },
        { class => ['order', 'newOrder', 'finalize', 'challenge'], json => 'strange' }] },
    { is => 'F11', what => 'a problem without status, as plain JSON, with 401', fails => qr/unauthorized: go away/,
        refused_order($no_status) },
    { is => 'F11', what => 'an empty problem', fails => qr/400 without saying why/,
        refused_order({ status => 400, nonce => 1, headers => { 'Content-Type' => 'application/json' }, json => {} }) },
    { is => 'F11', what => 'an empty object with 500', most => { finalize => 2 },
        rules => [{ class => 'finalize', to => 1, answer => { status => 500, body => '{}' } }] },
    { is => 'F11', what => 'a chain as text with a charset', rules => [
        { class => 'cert', set => { headers => { 'Content-Type' => 'text/plain; charset=utf-8' } } }] },
    { is => 'F11', what => 'JSON as text with a charset', rules => [
        { class => ['newOrder', 'order', 'authz'], set => { headers => { 'Content-Type' => 'text/html;charset=x' } } }] },
    { is => 'F36', what => 'a chain in reverse', changed_chain('reversed') },
    { is => 'F36', what => 'every certificate twice', changed_chain('doubled') },
    { is => 'F36', what => 'a chain with its root', changed_chain('rooted') },
    { is => 'F36', what => 'an intermediate is missing', fails => qr/sign|chain/, changed_chain('gap') },
    { is => 'F36', what => 'no leaf', fails => qr/key|CA/, changed_chain('headless') },
    { is => 'F37', what => 'a certificate of another key', fails => qr/key/, changed_chain('other_key') },
    { is => 'F37', what => 'a certificate of other names', fails => qr/name/,
        rules => [@keeps_csr, { class => 'cert', edit => 'other_names' }], most => { finalize => 1, cert => 1 } },
    { is => 'F37', what => 'a certificate of more names', own => 1,
        rules => [@keeps_csr, { class => 'cert', edit => 'more_names' }] },
    { is => 'F38', what => 'a private key in the chain', fails => qr/PRIVATE KEY|block/, changed_chain('with_key') },
    { is => 'F38', what => 'no PEM at all', fails => qr/certificate/, changed_chain('junk') },
    { is => 'F38', what => 'too many certificates', fails => qr/more than/, changed_chain('many') },
    { is => 'F38', what => 'PEM that ends in the middle', fails => qr/./, changed_chain('half') },
    { is => 'F38', what => 'a chain of 10 MB', stuck => qr/larger than allowed|[Mm]aximum file size/,
        rules => [{ class => 'cert', edit => 'large' }], most => { finalize => 1, cert => 2 } },
    { is => 'F38', what => 'a connection that ends in the middle of the chain', most => { finalize => 1, cert => 3 },
        rules => [{ class => 'cert', to => 1, cut => 1 }] },
    { is => 'F38', what => 'a connection that ends in the middle of an order', most => { finalize => 1 },
        rules => [{ class => 'order', to => 1, cut => 1 }] },
    { is => 'F41', what => 'a relative Location', rules => [
        { class => ['newOrder', 'order', 'finalize'], edit => 'relative' }] },
    { is => 'F45', what => 'type conflict', fails => qr/conflict: fault/, refused_order(problem(409, "${acme}conflict",
        detail => 'fault')) },
    { is => 'F45', what => 'type agreementRequired', fails => qr/agreementRequired: fault/,
        refused_order(problem(403, "${acme}agreementRequired", detail => 'fault')) },
    { is => 'F45', what => 'type about:blank', fails => qr/the words/, refused_order(problem(403, 'about:blank',
        detail => 'the words')) },
    { is => 'F45', what => 'no type', fails => qr/the words/, refused_order(problem(400, undef, detail => 'the words')) },
    { is => 'F45', what => 'a type of its own', fails => qr{https://ca\.example/errors/tired: the words},
        refused_order(problem(400, 'https://ca.example/errors/tired', detail => 'the words')) },
    { is => 'F45', what => 'badSignatureAlgorithm', fails => qr/badSignatureAlgorithm: fault/,
        refused_order(problem(400, "${acme}badSignatureAlgorithm", detail => 'fault', algorithms => ['EdDSA'])) },
);
my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start;
$proxy->rule(class => 'newAccount', edit => 'relative');
my $server = faulty_server($pebble, $proxy, \@faults);
ok $server->start, 'httpd starts' or exit 1;

subtest 'directories' => sub {
    my $near = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $between = Autocert::FaultProxy->new(pebble => $near, edits => \%edits)->start;
    my @cases = (
        ['F41: a directory that is elsewhere', 1,
            { class => 'directory', answer => { status => 302, headers => { Location => 'else/where' } } },
            { path => '^/else/where$', answer => { status => 301, headers => { Location => '/there' } } },
            { path => '^/there$', path_to => '/dir' }],
        ['F41: a directory that is nowhere', 0,
            { class => 'directory', answer => { status => 302, headers => { Location => '/dir' } } }],
        ['F42: random members', 1, { class => 'directory', json => 'random_member' }],
        (map { ["F42: $_", 1, { class => 'directory', json => $_ }] } qw(no_meta null_meta empty_meta list_meta)),
        ['F42: no newOrder', 0, { class => 'directory', json => 'no_new_order' }],
        ['F42: no https', 0, { class => 'directory', json => 'plain_urls' }],
        ['F42: not a directory', 0, { class => 'directory', answer => { status => 200, body => '[]' } }],
    );
    my @names = map { "directory$_.example.test" } 0 .. $#cases;
    my $head = "AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertAcceptTOS on\nAutocertCache dir:\@cache\@\n";
    my $site = Autocert::Server->with_ca($near, loglevel => 'notice autocert:debug', vars => $between->vars,
        config => '');
    for my $n (0 .. $#cases) {
        my ($what, $good, @rules) = @{ $cases[$n] };
        my @ids = map { $between->rule(%$_) } @rules;
        my $mark = $site->mark;
        $site->write_config($head . vhosts(@names[0 .. $n]));
        ok $n == 0 ? $site->start : $site->graceful, "$what: httpd starts" or return;
        if (!$good) {
            my $said = wait_until(OBTAIN_SECONDS, sub { (events($site, 'AC0130', $mark))[0] });
            like $said && $said->{text}, qr/next try .* \(in \d+ s\)$/, "$what: the CA is left alone for a while";
            $between->clear(@ids);
        }
        ok all_stored($site, OBTAIN_SECONDS, $names[$n]), "$what: obtained" . ($good ? '' : ' once it is well');
        is count_events($site, 'AC0130', $mark), 0, "$what: no trouble" if $good;
        $between->clear(@ids);
    }
    is count_events($site, 'AC0120'), 0, 'F42: no failure of a name in all that';
    ok $site->stop, 'httpd stops';
};

subtest 'faults' => sub {
    check_faults($server, $proxy, @faults);
    my $root = $pebble->root;
    for my $fault (grep { !$_->{fails} && !$_->{stuck} } @faults) {
        my $seen = handshake(port => $server->https, sni => $fault->{name},
            ca => $fault->{own} ? $own_ca_file : $root);
        ok $seen->{ok}, "$fault->{is}: $fault->{what}: it serves" or diag $seen->{error};
        is $seen->{chain_length}, 3, "$fault->{is}: $fault->{what}: leaf and intermediates" if $fault->{is} eq 'F36';
    }
    heal_faults($server, $proxy, @faults);
    ok $server->stop, 'httpd stops';
};

done_testing;
