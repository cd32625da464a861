# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A DNS server (BIND) that is authoritative for zones, takes dynamic updates that are signed with its key, and
# follows names from one of them to another as a recursive server does. Servers of zones are asked on port 53,
# so it needs an Autocert::Namespace.
#
#   my $names = Autocert::NameServer->new(zones => ['example.test'])->start;
#   $names->update('add alias.example.test. 60 CNAME www.other.test.');
#   my @values = $names->txt('_acme-challenge.example.test');
#
# Arguments of new(), all optional:
#   zones     the zones, each with a server ns1 and "*" at 127.0.0.1
#   addresses   that it listens at, the first being that of ns1; default: 127.0.0.1
#   name      of its directory, in messages
package Autocert::NameServer;

use strict;
use warnings;

use parent 'Autocert::Program';

use File::Copy ();
use MIME::Base64 ();

use Autocert::Util qw(spit run_program);

use constant {
    PORT => 53,
    ALGORITHM => 'hmac-sha256',
    SECRET_BYTES => 32,
};

sub new
{
    my ($class, %arg) = @_;

    my $self = $class->SUPER::new(name => 'names', %arg);
    $self->{zones} //= ['example.test'];
    $self->{addresses} //= ['127.0.0.1'];
    # Not where the package has it: what keeps that one to its own directories goes by its path.
    my ($path) = grep { -x } map { "$_/named" } split(/:/, $ENV{PATH}), '/usr/sbin';
    die "named is missing (package bind9)\n" unless defined $path;
    $self->{program} = "$self->{dir}/named";
    File::Copy::copy($path, $self->{program}) or die "$path: $!\n";
    chmod 0755, $self->{program} or die "$self->{program}: $!\n";
    $self->{secret} = MIME::Base64::encode_base64(join('', map { chr int rand 256 } 1 .. SECRET_BYTES), '');
    $self->write_config;
    return $self;
}

sub port       { return PORT }
sub ports      { return PORT }
sub key_name   { return 'acme' }
sub algorithm  { return ALGORITHM }
sub secret     { return $_[0]{secret} }

# The key as nsupdate and BIND read it; also of another secret.
sub key_text
{
    my ($self, $secret) = @_;
    $secret //= $self->secret;
    return 'key "' . $self->key_name . qq(" {\n    algorithm ) . ALGORITHM . qq(;\n    secret "$secret";\n};\n);
}

sub key_file { return "$_[0]{dir}/update.key" }

sub write_config
{
    my ($self) = @_;

    my $dir = $self->{dir};
    my $addresses = join ' ', map { "$_;" } @{ $self->{addresses} };
    my $text = $self->key_text . <<"CONF";
options {
    directory "$dir";
    pid-file "$dir/named.pid";
    session-keyfile none;
    listen-on port @{[PORT]} { $addresses };
    listen-on-v6 { none; };
    recursion yes;
    allow-recursion { any; };
    dnssec-validation no;
    empty-zones-enable no;
    notify no;
    allow-transfer { none; };
    querylog yes;
};
controls { };
zone "." { type primary; file "$dir/root.zone"; };
CONF
    # There is nothing else: it need not look for it.
    spit("$dir/root.zone", "\$TTL 60\n@ SOA ns. hostmaster. 1 3600 600 86400 1\n@ NS ns.\n"
            . "ns A $self->{addresses}[0]\n");
    for my $zone (@{ $self->{zones} }) {
        spit("$dir/$zone.zone", <<"ZONE");
\$ORIGIN $zone.
\$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 1
@ NS ns1
ns1 A $self->{addresses}[0]
@ A 127.0.0.1
* A 127.0.0.1
ZONE
        $text .= qq(zone "$zone" { type primary; file "$dir/$zone.zone"; allow-update { key )
            . $self->key_name . "; }; };\n";
    }
    spit("$dir/named.conf", $text);
    spit($self->key_file, $self->key_text, 0600);
    return;
}

sub command
{
    my ($self) = @_;
    return [$self->{program}, '-g', '-n', '1', '-c', "$self->{dir}/named.conf"];
}

# It writes its zones down when it ends, which nobody needs.
sub stop
{
    my ($self) = @_;
    return $self->SUPER::stop('KILL');
}

# Lines of nsupdate, without "update" before them; all or none is done.
sub update
{
    my ($self, @lines) = @_;
    my $file = spit("$self->{dir}/update", join '', "server $self->{addresses}[0]\n",
        (map { "update $_\n" } @lines), "send\n");
    my ($status, $text) = run_program(['nsupdate', '-k', $self->key_file, $file]);
    die "nsupdate: status $status: $text" if $status;
    return;
}

# The values of all TXT records of a name, sorted; what a CNAME leads to counts.
sub txt
{
    my ($self, $name) = @_;
    my ($status, $text) = run_program(['dig', '+short', '+tries=2', '+time=2', "\@$self->{addresses}[0]", 'TXT',
        "$name."]);
    die "dig: status $status: $text" if $status;
    my @values = sort map { /^"(.*)"$/ ? $1 : () } split /\n/, $text;
    return @values;
}

1;
