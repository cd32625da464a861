# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Which files of the cache are served and which are not: what Go's autocert accepts is
# accepted, what it misses is missed and said so in the log (but for text after the last
# block, which harms nobody), and what it fails on for ever is a miss too. First with a CA that is down, then with one that makes all good.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get make_ca issue_pair cache_value cert_info);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports run_program spit slurp scratch);

use constant {
    LOOK_SECONDS   => 30,
    OBTAIN_SECONDS => 60,
    ALERT_INTERNAL => 80,
    DAY            => 86_400,
};

my $ca = make_ca('a CA by hand');
my $root = spit(scratch() . "/files.$$", $ca->{pem});
my $dir = scratch() . "/files-dir.$$";
mkdir $dir or die "$dir: $!\n";

sub openssl
{
    my (@arguments) = @_;
    my ($status, $text) = run_program(['openssl', @arguments]);
    die "openssl @arguments: $text" if $status;
    return $text;
}

# A key of the pair, written by the openssl program in another form.
sub key_as
{
    my ($pair, @how) = @_;
    my $file = spit("$dir/in", $pair->{key_pem}, 0600);
    return openssl('pkey', '-in', $file, @how);
}

# A pair whose key comes from the openssl program.
sub pair_of_key
{
    my ($name, @how) = @_;
    openssl('genpkey', @how, '-out', "$dir/key");
    spit("$dir/ca", $ca->{pem});
    spit("$dir/ca-key", IO::Socket::SSL::Utils::PEM_key2string($ca->{key}), 0600);
    spit("$dir/san", "subjectAltName=DNS:$name\n");
    openssl('req', '-new', '-key', "$dir/key", '-subj', "/CN=$name", '-out', "$dir/csr");
    openssl('x509', '-req', '-in', "$dir/csr", '-CA', "$dir/ca", '-CAkey', "$dir/ca-key",
        '-set_serial', '77', '-days', '90', '-extfile', "$dir/san", '-out', "$dir/cert");
    return { key_pem => slurp("$dir/key"), pem => slurp("$dir/cert"), chain_pem => $ca->{pem} };
}

sub recoded
{
    my ($text, $columns) = @_;
    $text =~ s{(-----BEGIN [^\n]*-----\n)(.*?)(-----END)}{
        my ($begin, $base64, $end) = ($1, $2, $3);
        $base64 =~ tr/\n//d;
        $base64 =~ s/(.{1,$columns})/$1\n/g;
        $begin . $base64 . $end;
    }sge;
    return $text;
}

sub relabelled
{
    my ($text, $old, $new) = @_;
    $text =~ s/ \Q$old\E-----/ $new-----/g;
    return $text;
}

my $junk = "-----BEGIN CERTIFICATE-----\nAAECAwQFBgc=\n-----END CERTIFICATE-----\n";
my $parameters = openssl('ecparam', '-name', 'prime256v1');
my $dh = "-----BEGIN DH PARAMETERS-----\nMAYCAQcCAQI=\n-----END DH PARAMETERS-----\n";

# What is done with the value of a good EC pair; pair() makes another for the same name.
my @accepted = (
    ['VC-01 an EC pair', sub { $_ }],
    ['VC-03 two more certificates', sub { $_ . $ca->{pem} . $ca->{pem} }],
    ['a key as PKCS 8', sub { my ($n, $p) = @_; key_as($p) . $p->{pem} . $p->{chain_pem} }],
    ['SEC 1 under another label', sub { relabelled($_, 'EC PRIVATE KEY', 'PRIVATE KEY') }],
    ['a P-384 key', sub { cache_value(pair_of_key($_[0], '-algorithm', 'EC', '-pkeyopt',
        'ec_paramgen_curve:P-384')) }],
    ['text before it', sub { "some text\n$_" }],
    ['text between', sub { s/(-----END EC PRIVATE KEY-----\n)/$1some text\n/r }],
    ['an empty line between', sub { s/(-----END EC PRIVATE KEY-----\n)/$1\n/r }],
    ['CRLF', sub { s/\n/\r\n/gr }],
    ['76 columns', sub { recoded($_, 76) }],
    ['no newline at the end', sub { s/\n\z//r }],
    ['blanks after END', sub { s/(-----END EC PRIVATE KEY-----)\n/$1  \n/r }],
    ['other labels of certificates', sub { relabelled($_, 'CERTIFICATE', 'SOMETHING') }],
    ['several names', sub { cache_value(issue_pair($ca, ['x.example.test', $_[0]])) }],
    ['a wildcard that covers it', sub { cache_value(issue_pair($ca, ['*.example.test'])) }],
    # Text around the blocks is skipped wherever it stands; Go takes it in front of them only.
    ['a newline after it', sub { "$_\n" }],
    ['a comment after it', sub { "$_# a comment\n" }],
    ['a byte order mark', sub { "\xef\xbb\xbf$_" }],
    ['no chain', sub { my ($n, $p) = @_; cache_value({ %$p, chain_pem => '' }) }],
);
my @missed = (
    ['VC-04 a chain with junk', sub { $_ . $junk }],
    ['VC-05 junk only', sub { s/-----BEGIN CERTIFICATE.*/$junk/sr }],
    ['VC-06 the certificate of another key', sub { my ($n, $p) = @_;
        cache_value({ %$p, key_pem => issue_pair($ca, [$n])->{key_pem} }) }],
    ['VC-08 an RSA certificate and an EC key', sub { my ($n, $p) = @_;
        cache_value({ %{ issue_pair($ca, [$n], key => 'rsa') }, key_pem => $p->{key_pem} }) }],
    ['VC-09 an EC certificate and an RSA key', sub { my ($n, $p) = @_;
        cache_value({ %$p, key_pem => issue_pair($ca, [$n], key => 'rsa')->{key_pem} }) }],
    ['VC-10 another name', sub { cache_value(issue_pair($ca, ['other.example.org'])) }],
    ['VC-11 not valid yet', sub { cache_value(issue_pair($ca, [$_[0]], not_before => DAY)) }],
    ['VC-12 expired', sub { cache_value(issue_pair($ca, [$_[0]], not_before => -2 * DAY,
        not_after => -DAY)) }],
    ['VC-14 an RSA pair', sub { cache_value(issue_pair($ca, [$_[0]], key => 'rsa')) }],
    ['EC parameters first', sub { $parameters . $_ }],
    ['EC parameters between', sub { s/(-----END EC PRIVATE KEY-----\n)/$1$parameters/r }],
    ['the certificate first', sub { my ($n, $p) = @_; $p->{pem} . key_as($p, '-traditional') }],
    ['no certificate', sub { my ($n, $p) = @_; key_as($p, '-traditional') }],
    ['DH parameters', sub { $_ . $dh }],
    ['nothing', sub { '' }],
    ['garbage', sub { "\0\1\2garbage" x 40 }],
    ['the first half', sub { substr $_, 0, length($_) / 2 }],
    ['a wildcard that does not cover it', sub { cache_value(issue_pair($ca, ["*.$_[0]"])) }],
    ['a name in the subject only', sub { cache_value(issue_pair($ca, [], cn => $_[0],
        ips => ['192.0.2.1'])) }],
    ['an Ed25519 key', sub { my $p = pair_of_key($_[0], '-algorithm', 'ED25519');
        $p->{key_pem} . $p->{pem} }],
    ['an encrypted key', sub { my ($n, $p) = @_;
        key_as($p, '-aes128', '-passout', 'pass:secret') . $p->{pem} }],
    ['a key that is no key', sub { s/(EC PRIVATE KEY-----\n)[^-]*/$1AAECAwQFBgc=\n/r }],
);

my %case;
my @order;
for my $list (['good', \@accepted], ['bad', \@missed]) {
    my ($kind, $rows) = @$list;
    my $n = 0;
    for my $row (@$rows) {
        my $name = $kind . $n++ . '.example.test';
        my $pair = issue_pair($ca, [$name]);
        my $value;
        $value = $row->[1]->($name, $pair) for cache_value($pair);
        $case{$name} = { what => $row->[0], value => $value, good => $kind eq 'good' };
        push @order, $name;
    }
}
# Two that are no ordinary files.
$case{'directory.example.test'} = { what => 'a directory' };
$case{'link.example.test'} = { what => 'a link that leads nowhere' };
push @order, 'directory.example.test', 'link.example.test';

my $pebble = Autocert::Pebble->new;
my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https,
    vars => { %{ $pebble->vars }, names => join ' ', @order }, config => <<'CONF');
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain @names@
</VirtualHost>
CONF
for my $name (grep { defined $case{$_}{value} } @order) {
    $server->cache_put($name, $case{$name}{value});
}
mkdir $server->cache_file('directory.example.test') or die "mkdir: $!\n";
symlink '/nowhere', $server->cache_file('link.example.test') or die "symlink: $!\n";
ok $server->start, 'httpd starts whatever the cache holds' or exit 1;
ok $server->wait_for_log(qr/AC0001: autocert: \Q${\ scalar @order}\E names .* \Q${\ scalar @accepted}\E valid/,
    LOOK_SECONDS), 'it finds ' . @accepted . ' of ' . @order . ' files good';

for my $name (@order) {
    my $case = $case{$name};
    my $seen = https_get(port => $server->https, sni => $name, ca => $root);
    if ($case->{good}) {
        ok $seen->{ok}, "X-01 $case->{what}: is served" or diag "$name: $seen->{error}";
        is $seen->{status}, 200, "X-01 $case->{what}: with the page";
        unlike $server->log_since(0), qr/AC03\d\d: autocert: \Q$name\E: /,
            "X-01 $case->{what}: nothing is said about it";
    }
    else {
        ok !$seen->{ok}, "X-02 $case->{what}: is not served";
        is $seen->{alert}, ALERT_INTERNAL, "X-02 $case->{what}: internal_error" or diag $seen->{error};
        # A link is not followed, so this one is as good as no file.
        like $server->log_since(0), qr/AC0301: autocert: \Q$name\E: .*cannot serve: \S/,
            "X-02 $case->{what}: the log has a reason" unless $name =~ /^link/;
    }
}
unlike $server->log_since(0), qr/BEGIN|PRIVATE KEY-----|[A-Za-z0-9+\/]{60}=?/, 'and no key in it';

# With a CA every file that was no good is replaced; those that were stay as they are.
$pebble->start;
ok $server->restart, 'httpd starts again, now with a CA' or exit 1;
my $pebble_root = $pebble->root;
for my $name (grep { !$case{$_}{good} && !/^directory/ } @order) {
    my $seen = wait_until(OBTAIN_SECONDS, sub {
        my $now = handshake(port => $server->https, sni => $name, ca => $pebble_root);
        return $now->{ok} ? $now : undef;
    }, "a certificate for $name");
    ok $seen, "X-02 $case{$name}{what}: is obtained";
    my $text = slurp($server->cache_file($name));
    ok $text =~ /\A-----BEGIN EC PRIVATE KEY-----\n/ && $seen && $text =~ /\Q$seen->{pem}\E/,
        "X-02 $case{$name}{what}: and in the file";
}
for my $name (grep { $case{$_}{good} } @order) {
    is slurp($server->cache_file($name)), $case{$name}{value}, "X-01 $case{$name}{what}: is left alone";
}
ok -d $server->cache_file('directory.example.test'), 'a directory is nothing to replace';
ok !-e '/nowhere', 'a link is not followed';
my $issued = grep { !$case{$_}{good} && !/^directory/ } @order;
is $pebble->orders, $issued, 'one order for each that was no good';

done_testing;
